"""Batch normalisation for a center that took no part, where a method leaves it at the centers (FedBN, SiloBN).

Such a center has none of its own, so a rule must say which it gets, and it is chosen before its images are looked at.
None of the rules reads a label or takes a step of an optimizer. ``re-estimate`` and ``least-entropy`` read the images
that are to be predicted: they are transductive, and what an image is given depends on those beside it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ramw_fed.config import UNSEEN_RULES, RunConfig
from ramw_fed.data.batches import Examples
from ramw_fed.errors import ConfigError, RunError
from ramw_fed.learning.inference import BATCH_SIZE, predict_images
from ramw_fed.learning.training import reproducible
from ramw_fed.methods.method import Weights, weighted_mean

_BATCH_SIZE = 32
"""Images over which a variance is taken at a time; whatever their number, batches differ by one image at most."""


def weights_at(
    center: str,
    shared: Weights,
    states: Mapping[str, Weights],
    rule: str | None,
    network: nn.Module,
    images: Callable[[], Tensor],
) -> Weights:
    """Return all tensors of ``network`` for a center of the run, or by a rule for one that took no part.

    Args:
        center: Name.
        shared: Tensors that all centers have in common.
        states: Center to its own tensors; empty where the method shares all.
        rule: One of ``UNSEEN_RULES``; None is ``refuse``.
        network: Of the task; its weights are overwritten.
        images: Gives the center's images as the network takes them, where a rule reads them.

    Raises:
        ConfigError: The center took no part and there is no rule.
        RunError: Tensors are missing, or the images do not allow what the rule asks.
    """
    missing = set(network.state_dict()) - set(shared)
    if not missing:
        return shared
    if not states:
        raise RunError(
            f"the run left {len(missing)} tensors of its network at the centers, and models/centers does not hold "
            "them: only a simulation gathers them; in a deployment each center has its own (client/deploy/README.md)"
        )
    if center in states:
        return {**shared, **states[center]}
    if rule in (None, "refuse"):
        raise ConfigError(
            f"{center!r} took no part in this run, whose centers {', '.join(sorted(states))} have batch normalisation "
            f"of their own: which shall it get? Choose --unseen-batch-norm {' or '.join(UNSEEN_RULES[1:])} before "
            "looking at results"
        )
    return complete_for_unseen(shared, states, str(rule), network, images() if rule in _READING else None)


def with_rule(config: RunConfig, rule: str | None) -> RunConfig:
    """Return the configuration of a finished run with another rule; None leaves it as it is.

    Raises:
        ConfigError: There is no such rule, or the run's method leaves nothing at the centers.
    """
    if rule is None:
        return config
    try:
        return replace(config, unseen_batch_norm=rule)
    except ConfigError as error:
        raise ConfigError(f"the run cannot be taken with another rule: {error}") from error


def complete_for_unseen(
    shared: Weights, states: Mapping[str, Weights], rule: str, network: nn.Module, images: Tensor | None = None
) -> Weights:
    """Return all tensors of ``network`` for a center that took no part.

    Args:
        shared: Tensors that all centers have in common.
        states: Center to its own tensors; at least one.
        rule: ``mean``, ``re-estimate`` or ``least-entropy``.
        network: Of the task, on the device where to compute; its weights are overwritten.
        images: ``(images, channels, S, S)`` of the center, as the network takes them; ``mean`` reads none.

    Raises:
        ConfigError: There is no such rule.
        RunError: There are no states, or no images where the rule reads them.
    """
    if rule not in RULES:
        raise ConfigError(f"unseen-batch-norm is {rule!r}; one of {', '.join(RULES)} is wanted")
    if not states:
        raise RunError("no center's own tensors are there to make those of another center from")
    if rule in _READING and (images is None or len(images) == 0):
        raise RunError(f"unseen-batch-norm {rule!r} reads the center's images, and there are none; take mean")
    return RULES[rule](shared, states, network, torch.empty(0) if images is None else images)


def mean_state(states: Mapping[str, Weights]) -> dict[str, Tensor]:
    """Return the unweighted mean of the centers' own tensors in float64, cast last; of counters the largest."""
    first = states[min(states)]
    return weighted_mean(first, states, dict.fromkeys(states, 1.0))


def mean_entropy(logits: Tensor) -> float:
    r"""Return the mean over all logits of the entropy of a sigmoid, :math:`-p \log p - (1-p) \log (1-p)`, in nats.

    Shannon entropy of predictions as in Wang et al., ICLR 2021, section 3.1, https://arxiv.org/abs/2006.10726, for one
    sigmoid a logit; with :math:`p = \sigma(z)` it is :math:`\log(1 + e^{-|z|}) + |z| / (1 + e^{|z|})`. No logits: NaN.
    """
    size = logits.double().abs()
    return float((torch.log1p(torch.exp(-size)) + size * torch.sigmoid(-size)).mean())


def images_of(examples: Examples) -> Tensor:
    """Return the inputs of all rows, without augmentation; no label is read from them."""
    rows = [np.arange(start, min(start + BATCH_SIZE, len(examples))) for start in range(0, len(examples), BATCH_SIZE)]
    parts = [examples.batch(part.astype(np.int64), augment_key=None)[0] for part in rows]
    return torch.cat(parts) if parts else torch.empty(0)


def _mean(shared: Weights, states: Mapping[str, Weights], _network: nn.Module, _images: Tensor) -> Weights:
    return {**shared, **mean_state(states)}


def _re_estimate(shared: Weights, states: Mapping[str, Weights], network: nn.Module, images: Tensor) -> Weights:
    """Take scale and offset of the mean, and statistics of the images: AdaBN, SiloBN's way with a new center.

    Li et al. 2016, algorithm 1, https://arxiv.org/abs/1603.04779; Andreux et al. 2020, https://arxiv.org/abs/2008.07424.
    One pass, every layer normalising by the batch: running statistics become the means of the batches' weighted by
    their images.
    """
    network.load_state_dict(_mean(shared, states, network, images))
    device = next(network.parameters()).device
    seen = 0
    with _estimating(network) as norms, reproducible(0, device), torch.no_grad():
        for batch in torch.tensor_split(images, max(1, -(-len(images) // _BATCH_SIZE))):
            seen += len(batch)
            for norm in norms:
                norm.momentum = len(batch) / seen
            try:
                network(batch.to(device))
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise RunError(
                    f"{len(images)} image(s) give a layer a single value, which has no variance: unseen-batch-norm "
                    "re-estimate needs more of them; take mean"
                ) from error
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def _least_entropy(shared: Weights, states: Mapping[str, Weights], network: nn.Module, images: Tensor) -> Weights:
    """Take the state of the center whose predictions of the images are surest; of equals the first by name."""
    device = next(network.parameters()).device
    entropies: dict[str, float] = {}
    for center in sorted(states):
        network.load_state_dict({**shared, **states[center]})
        entropies[center] = mean_entropy(predict_images(network, images, device))
    return {**shared, **states[min(entropies, key=lambda center: entropies[center])]}


@contextmanager
def _estimating(network: nn.Module) -> Iterator[Collection[_BatchNorm]]:
    """Let batch normalisations start anew and learn statistics, and nothing else behave as in training."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    try:
        yield norms
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval()


Rule = Callable[[Weights, Mapping[str, Weights], nn.Module, Tensor], Weights]
RULES: Mapping[str, Rule] = MappingProxyType(
    {"mean": _mean, "re-estimate": _re_estimate, "least-entropy": _least_entropy}
)
_READING = frozenset({"re-estimate", "least-entropy"})
