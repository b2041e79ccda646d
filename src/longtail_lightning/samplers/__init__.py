"""Index samplers, exact under DDP and on resume. Torch only; `Sampler(labels, ...)`."""

from longtail_lightning.samplers._base import LongTailSampler as LongTailSampler
from longtail_lightning.samplers.evaluation import EvaluationSampler as EvaluationSampler
from longtail_lightning.samplers.instance_balanced import InstanceBalancedSampler as InstanceBalancedSampler
from longtail_lightning.samplers.power import ClassBalancedSampler as ClassBalancedSampler
from longtail_lightning.samplers.power import PowerSampler as PowerSampler
from longtail_lightning.samplers.power import SquareRootSampler as SquareRootSampler

__all__ = [
    "ClassBalancedSampler",
    "EvaluationSampler",
    "InstanceBalancedSampler",
    "LongTailSampler",
    "PowerSampler",
    "SquareRootSampler",
]
