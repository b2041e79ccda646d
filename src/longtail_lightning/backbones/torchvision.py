"""Any torchvision classification model as a backbone."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.backbones._base import Backbone


class TorchvisionBackbone(Backbone):
    """Any classification model of torchvision, with its last linear layer removed.

    **Shapes.** images `(batch, 3, height, width)`; features `(batch, num_features)`.

    **When it helps, when it hurts.** Where a paper's numbers rest on torchvision weights; timm has
    more models.

    Args:
        name: a torchvision model name such as `"resnet50"`.
        pretrained: whether to download weights.
        weights: which ones to download; by default torchvision's best, `"IMAGENET1K_V1"` are those that most papers
            before 2022 began with. Or the file of a checkpoint that they are read from, see `load_weights`.

    Examples:
        >>> import torch
        >>> TorchvisionBackbone("resnet18")(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 512])
    """

    def __init__(self, name: str, *, pretrained: bool = False, weights: str | Path | None = None) -> None:
        super().__init__()
        import torchvision

        self.name, self.pretrained = name, pretrained
        names = torchvision.models.list_models(module=torchvision.models)
        if name not in names:
            raise LongTailError(f"torchvision has no classification model {name!r}. {did_you_mean(name, names)}")
        known = list(torchvision.models.get_model_weights(name).__members__)
        download = str(weights or "DEFAULT")
        file = None if weights is None or download in known else Path(weights)
        if pretrained and file is not None and file.is_file():
            raise LongTailError(f"pretrained=True downloads weights and {file} has some: give one of the two.")
        if file is not None and not file.is_file():
            raise LongTailError(
                f"torchvision has no weights {download!r} of {name}, nor is there such a file. "
                f"{did_you_mean(download, known)}"
            )
        # The auxiliary classifiers of the two oldest models would make them return tuples.
        options = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        if pretrained:
            self.network = torchvision.models.get_model(name, weights=download)
            if options:
                for name in ("AuxLogits", "aux1", "aux2"):
                    setattr(self.network, name, None)
                self.network.aux_logits = False  # type: ignore[assignment]
        else:
            self.network = torchvision.models.get_model(name, weights=None, **options)
        self.num_features = self._remove_classifier()
        self._load(file)
        self.weights = weights

    def _remove_classifier(self) -> int:
        path, classifier = list(self.network.named_modules())[-1]
        if not isinstance(classifier, nn.Linear):
            linear = [item for item in self.network.named_modules() if isinstance(item[1], nn.Linear)]
            if not linear or linear[-1][1].out_features != 1000:
                raise LongTailError(
                    f"torchvision's {self.name!r} does not end in a linear classifier: use a timm model instead."
                )
            path, classifier = linear[-1]
        parent, _, attribute = path.rpartition(".")
        setattr(self.network.get_submodule(parent), attribute, nn.Identity())
        return int(classifier.in_features)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images)
        return features
