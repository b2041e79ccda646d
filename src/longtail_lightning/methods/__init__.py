"""Ways from a trained classifier and a bank to a balanced one, one file each."""

from longtail_lightning.methods.retraining import CRT as CRT
from longtail_lightning.methods.retraining import LWS as LWS
from longtail_lightning.methods.retraining import NCM as NCM
from longtail_lightning.methods.retraining import Retraining as Retraining
from longtail_lightning.methods.retraining import TauNormalization as TauNormalization
from longtail_lightning.methods.tau import TauSelection as TauSelection
from longtail_lightning.methods.tau import learn_tau as learn_tau
from longtail_lightning.methods.tau import select_tau as select_tau

__all__ = ["CRT", "LWS", "NCM", "Retraining", "TauNormalization", "TauSelection", "learn_tau", "select_tau"]
