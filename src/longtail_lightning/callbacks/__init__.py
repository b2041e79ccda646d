"""Callbacks for any LightningModule."""

from longtail_lightning.callbacks.branch_report import BranchReport as BranchReport
from longtail_lightning.callbacks.classifier_retraining import ClassifierRetraining as ClassifierRetraining
from longtail_lightning.callbacks.deferred_resampling import DeferredResampling as DeferredResampling
from longtail_lightning.callbacks.deferred_reweighting import DeferredReweighting as DeferredReweighting
from longtail_lightning.callbacks.interrupt_checkpoint import InterruptCheckpoint as InterruptCheckpoint
from longtail_lightning.callbacks.logit_adjustment import LogitAdjustment as LogitAdjustment
from longtail_lightning.callbacks.long_tail_report import LongTailReport as LongTailReport
from longtail_lightning.callbacks.non_finite_loss import NonFiniteLossGuard as NonFiniteLossGuard
from longtail_lightning.callbacks.non_finite_output import NonFiniteOutputGuard as NonFiniteOutputGuard
from longtail_lightning.callbacks.prediction_writer import PredictionWriter as PredictionWriter
from longtail_lightning.callbacks.tau_sweep import TauSweep as TauSweep

__all__ = [
    "BranchReport",
    "ClassifierRetraining",
    "DeferredResampling",
    "DeferredReweighting",
    "InterruptCheckpoint",
    "LogitAdjustment",
    "LongTailReport",
    "NonFiniteLossGuard",
    "NonFiniteOutputGuard",
    "PredictionWriter",
    "TauSweep",
]
