"""What a network says of images, independent of which other images it is asked about."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ramw_fed.data.batches import Examples, Rows, padded_batches
from ramw_fed.learning.training import channels_last, reproducible

# Every forward pass has this many rows, the last one filled up: kernels are chosen by shape, and another kernel rounds
# otherwise. Equal shapes keep an image's logits equal, whatever process it is measured in and beside which others.
BATCH_SIZE = 8


def predict(model: nn.Module, examples: Examples, device: torch.device) -> Iterator[tuple[Rows, Tensor, Tensor]]:
    """Give, batch by batch and in order, (rows, logits, targets) on the CPU, without augmentation."""
    model.eval()
    for padded, count in padded_batches(len(examples), BATCH_SIZE):
        with reproducible(0, device), channels_last(model), torch.inference_mode():
            inputs, targets = examples.batch(padded, augment_key=None)
            logits = model(inputs.to(device, memory_format=torch.channels_last)).float().cpu().contiguous()
        yield padded[:count], logits[:count], targets[:count]


def predict_images(model: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """Return the logits of normalised ``(images, channels, S, S)``, the same as ``predict`` gives for them."""
    model.eval()
    parts = []
    for padded, count in padded_batches(len(images), BATCH_SIZE):
        with reproducible(0, device), channels_last(model), torch.inference_mode():
            inputs = images[torch.from_numpy(padded)].to(device, memory_format=torch.channels_last)
            parts.append(model(inputs).float().cpu().contiguous()[:count])
    return torch.cat(parts)
