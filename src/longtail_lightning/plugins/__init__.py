"""Plug-ins of Lightning's trainer."""

from longtail_lightning.plugins.checkpoint_io import WholeCheckpointIO as WholeCheckpointIO

__all__ = ["WholeCheckpointIO"]
