"""Index samplers, exact under DDP and on resume. Torch only; `Sampler(labels, ...)`."""

from longtail_lightning.samplers._base import LongTailSampler as LongTailSampler
from longtail_lightning.samplers.class_aware import ClassAwareSampler as ClassAwareSampler
from longtail_lightning.samplers.class_uniform_batch import ClassUniformBatchSampler as ClassUniformBatchSampler
from longtail_lightning.samplers.effective_number import EffectiveNumberSampler as EffectiveNumberSampler
from longtail_lightning.samplers.evaluation import EvaluationSampler as EvaluationSampler
from longtail_lightning.samplers.instance_balanced import InstanceBalancedSampler as InstanceBalancedSampler
from longtail_lightning.samplers.power import ClassBalancedSampler as ClassBalancedSampler
from longtail_lightning.samplers.power import PowerSampler as PowerSampler
from longtail_lightning.samplers.power import SquareRootSampler as SquareRootSampler
from longtail_lightning.samplers.progressive import ProgressivelyBalancedSampler as ProgressivelyBalancedSampler
from longtail_lightning.samplers.repeat_factor import RepeatFactorSampler as RepeatFactorSampler
from longtail_lightning.samplers.reversed import ReversedSampler as ReversedSampler

__all__ = [
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
]
