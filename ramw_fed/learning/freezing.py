"""A frozen backbone with a small head that learns."""

from torch import nn

from ramw_fed.errors import ConfigError


def freeze_all_but(network: nn.Module, head: nn.Module) -> None:
    """Let nothing of ``network`` learn but its part ``head``.

    Raises:
        ConfigError: The head has no weights, so that nothing would learn.
    """
    learning = list(head.parameters()) if isinstance(head, nn.Module) else []
    if not learning:
        raise ConfigError(
            f"trainable is 'head', but {type(network).__name__} has no head with weights of its own; take trainable = "
            "'all', or another encoder"
        )
    network.requires_grad_(False)
    head.requires_grad_(True)


def train_head(network: nn.Module) -> None:
    """Put into training mode what learns; all that is frozen stays as in use.

    Statistics of a batch normalisation move without any gradient: a backbone in training mode would take in every
    image that it is said not to learn from.
    """
    network.train()
    for module in network.modules():
        params = list(module.parameters())
        if params and not any(param.requires_grad for param in params):
            module.eval()
