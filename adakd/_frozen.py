"""A teacher's network: in evaluation mode, without gradients."""

from torch import nn

__all__ = ["evaluate_parts", "frozen"]


def frozen(network: nn.Module) -> nn.Module:
    """The network itself, in evaluation mode and with its parameters frozen.

    One of TorchScript has no ``requires_grad_`` of its own, so each parameter is set; one of `torch.export` refuses ``eval``
    and stays in the mode in which it was exported.
    """
    evaluate_parts(network)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network


def evaluate_parts(module: nn.Module) -> None:
    """Put a network into evaluation mode, but for what refuses to change its mode."""
    try:
        module.eval()
    except NotImplementedError:
        module.training = False
        for part in module.children():
            evaluate_parts(part)
