"""Where the last block of a network begins."""

from __future__ import annotations

from torch import nn

_SHALLOW = 2  # layers with parameters: a convolution and its norm are no block


def last_block(backbone: nn.Module) -> list[nn.Module]:
    """The last block of any network, and whatever follows it.

    Children are taken in the order in which they were registered. That is `layer4` of a ResNet, the last stage of
    a ConvNeXt or EfficientNet, the last transformer block of a ViT with its norm, the last residual block of a
    `CIFARResNet`.

    Examples:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
        >>> last_block(network) == [network[1]]
        True
    """
    following: list[nn.Module] = []
    module = backbone
    while True:
        children = [child for child in module.children() if any(True for _ in child.parameters())]
        if not children:
            return [module, *following]
        blocks = [i for i, child in enumerate(children) if _layers(child) > _SHALLOW]
        last = blocks[-1] if blocks else len(children) - 1
        following = children[last + 1 :] + following
        module = children[last]
        # Alone among stem and norm, it is what holds the blocks; beside others, it is the last of them.
        if len(blocks) != 1:
            return [module, *following]


def _layers(module: nn.Module) -> int:
    return sum(bool(part._parameters) for part in module.modules())
