"""Composable long-tail components for PyTorch Lightning.

Everything is importable from here and loaded on first use, so that `import longtail_lightning`
costs nothing: `from longtail_lightning import LogitAdjustedLoss`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longtail_lightning.backbones import *  # noqa: F403
    from longtail_lightning.callbacks import *  # noqa: F403
    from longtail_lightning.counts import ClassCounts as ClassCounts
    from longtail_lightning.counts import ShotSplits as ShotSplits
    from longtail_lightning.data import *  # noqa: F403
    from longtail_lightning.features import *  # noqa: F403
    from longtail_lightning.heads import *  # noqa: F403
    from longtail_lightning.losses import *  # noqa: F403
    from longtail_lightning.metrics import *  # noqa: F403
    from longtail_lightning.modules import *  # noqa: F403
    from longtail_lightning.samplers import *  # noqa: F403

__version__ = "0.1.0"

# Room -> the names it gives; a test compares this table with each room's __all__.
_ROOMS: dict[str, tuple[str, ...]] = {
    "counts": ("ClassCounts", "ShotSplits"),
    "losses": (
        "BalancedSoftmaxLoss",
        "ClassBalancedLoss",
        "CrossEntropyLoss",
        "DistributionBalancedLoss",
        "EqualizationLoss",
        "FeatureDistillationLoss",
        "FocalLoss",
        "GaussianCloudedLoss",
        "LabelAwareSmoothingLoss",
        "LADELoss",
        "LDAMLoss",
        "LogitAdjustedLoss",
        "LogitDistillationLoss",
        "LongTailLoss",
        "MomentumEncoder",
        "ParametricContrastiveLoss",
        "SeesawLoss",
        "SupervisedContrastiveLoss",
        "VectorScalingLoss",
        "WrapLoss",
    ),
    "samplers": (
        "ClassAwareSampler",
        "ClassBalancedSampler",
        "ClassUniformBatchSampler",
        "EffectiveNumberSampler",
        "EvaluationSampler",
        "InstanceBalancedSampler",
        "LongTailSampler",
        "PowerSampler",
        "ProgressivelyBalancedSampler",
        "RepeatFactorSampler",
        "ReversedSampler",
        "SquareRootSampler",
    ),
    "heads": (
        "CosineHead",
        "Head",
        "LearnableScaleHead",
        "LinearHead",
        "MLPHead",
        "NearestClassMeanHead",
        "TauNormalizedHead",
    ),
    "metrics": ("BalancedAccuracy", "ExpectedCalibrationError", "PerClassAccuracy", "ShotAccuracy"),
    "backbones": (
        "Backbone",
        "CIFARResNet",
        "IdentityBackbone",
        "ResNeXt",
        "ResNet10",
        "TimmBackbone",
        "TorchvisionBackbone",
        "create_backbone",
    ),
    "features": (
        "CRT",
        "FeatureBank",
        "LWS",
        "NCM",
        "Retraining",
        "TauNormalization",
        "TauSelection",
        "extract_features",
        "fit_head",
        "learn_tau",
        "select_tau",
    ),
    "data": (
        "ArrayImages",
        "ArrayLT",
        "CIFAR100LT",
        "CIFAR10LT",
        "ConcatLT",
        "CSVLT",
        "DataReport",
        "FeatureDataModule",
        "HuggingFaceLT",
        "ImageFolderLT",
        "INaturalist",
        "ImageList",
        "ImageListLT",
        "ImageShards",
        "ImageTransforms",
        "LongTailDataModule",
        "PaddedCropTransforms",
        "ResizedCropTransforms",
        "ShardsLT",
        "SubsetId",
        "SyntheticImages",
        "SyntheticLongTail",
        "check_images",
        "decode_image",
        "labels_of",
        "long_tail_counts",
        "long_tail_indices",
        "prepare_shards",
        "read_class_names",
    ),
    "modules": ("BaseClassifier", "Decoupled", "WarmupCosine", "WarmupMultiStep"),
    "callbacks": (
        "ClassifierRetraining",
        "DeferredResampling",
        "DeferredReweighting",
        "LogitAdjustment",
        "LongTailReport",
        "NonFiniteLossGuard",
        "PredictionWriter",
        "TauSweep",
    ),
    "report": (),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [*_ROOMS, *_ROOM_OF]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name in _ROOM_OF:
        return getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    from longtail_lightning._errors import did_you_mean

    raise AttributeError(f"longtail_lightning has no {name!r}. {did_you_mean(name, __all__, listing='ltl list')}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
