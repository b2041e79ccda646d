"""Any timm model as a backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.backbones._base import Backbone


class TimmBackbone(Backbone):
    """Any model of the timm library, without its classifier.

    **Shapes.** images `(batch, 3, height, width)` at the size the model was made for; features
    `(batch, num_features)`.

    **When it helps, when it hurts.** For pretrained weights. With few images per class, features
    pretrained on a large set are worth more than any loss.

    Args:
        name: a timm model name such as `"resnet50"` or `"vit_base_patch16_224.augreg_in21k"`.
        pretrained: whether to download weights.
        drop_path_rate: stochastic depth, for models that have it; 0 leaves the model's default.
        last_relu: False leaves the last ReLU of the network out, so that features can be negative, for a
            cosine classifier (`"cos(noRelu)"` of Kang et al. 2020, appendix B.7).
        weights: file of a checkpoint that the weights are read from, see `load_weights`.

    Examples:
        >>> import torch
        >>> TimmBackbone("resnet10t")(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 512])
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = False,
        drop_path_rate: float = 0.0,
        last_relu: bool = True,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        import timm

        self.name, self.pretrained = name, pretrained
        self.drop_path_rate, self.last_relu = drop_path_rate, last_relu
        if not timm.is_model(name):
            raise LongTailError(f"timm has no model {name!r}. {did_you_mean(name, timm.list_models())}")
        options: dict[str, Any] = {"drop_path_rate": drop_path_rate} if drop_path_rate else {}
        network: Any = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
        # Models with a hidden layer before the classifier are wider there than num_features.
        self.num_features = int(getattr(network, "head_hidden_size", None) or network.num_features)
        self.network = network
        if not last_relu:
            self._remove_last_relu()
        self._load(weights)

    def _remove_last_relu(self) -> None:
        paths = [path for path, module in self.network.named_modules() if isinstance(module, nn.ReLU)]
        if not paths:
            raise LongTailError(f"timm's {self.name!r} has no ReLU to leave out: drop last_relu=False.")
        parent, _, attribute = paths[-1].rpartition(".")
        setattr(self.network.get_submodule(parent), attribute, nn.Identity())

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images)
        return features
