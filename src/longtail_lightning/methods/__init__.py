"""Ways from a trained classifier and a bank to a balanced one, one file each."""

from longtail_lightning.methods.base import Retrained as Retrained
from longtail_lightning.methods.base import Retraining as Retraining
from longtail_lightning.methods.crt import CRT as CRT
from longtail_lightning.methods.fecam import FeCAM as FeCAM
from longtail_lightning.methods.knowledge_transfer import KnowledgeTransfer as KnowledgeTransfer
from longtail_lightning.methods.knowledge_transfer import Prototypes as Prototypes
from longtail_lightning.methods.learn_tau import learn_tau as learn_tau
from longtail_lightning.methods.logit_adjustment import AdjustedLogits as AdjustedLogits
from longtail_lightning.methods.lws import LWS as LWS
from longtail_lightning.methods.ncm import NCM as NCM
from longtail_lightning.methods.tau_normalization import TauNormalization as TauNormalization
from longtail_lightning.methods.tau_selection import TauSelection as TauSelection
from longtail_lightning.methods.tau_selection import select_tau as select_tau

__all__ = [
    "CRT",
    "LWS",
    "NCM",
    "AdjustedLogits",
    "FeCAM",
    "KnowledgeTransfer",
    "Prototypes",
    "Retrained",
    "Retraining",
    "TauNormalization",
    "TauSelection",
    "learn_tau",
    "select_tau",
]
