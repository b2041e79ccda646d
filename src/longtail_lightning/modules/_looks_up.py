"""A module that looks images up in a memory, which is no part of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from longtail_lightning.modules._description import KEY
from longtail_lightning.modules._lookup import Lookup
from longtail_lightning.modules._retrieval_fit import before_sharding, begin_run, give_back
from longtail_lightning.modules.base_classifier import BaseClassifier
from longtail_lightning.retrieval import RetrievalMemory


class LooksUp(BaseClassifier):
    """Brings data and memory together when a run begins; a child sets `lookup`, `encoder` and `branches`."""

    outside: ClassVar[tuple[str, ...]] = ("memory",)

    lookup: Lookup
    encoder: nn.Module
    branches: str

    @property
    def memory(self) -> RetrievalMemory:
        """What images are looked up in; may be edited, and replaced by one of the same encoder."""
        return self.lookup.require()

    @memory.setter
    def memory(self, memory: RetrievalMemory | str | Path) -> None:
        self.lookup.memory = RetrievalMemory.load(memory) if isinstance(memory, (str, Path)) else memory

    @property
    def query_encoder(self) -> nn.Module:
        return self.encoder

    def setup(self, stage: str) -> None:
        super().setup(stage)
        before_sharding(self)

    # The weights of a checkpoint, the encoder's too, come between `setup` and these.

    def on_fit_start(self) -> None:
        begin_run(self, "fit")

    def on_validation_start(self) -> None:
        if self.trainer.state.fn == "validate":
            begin_run(self, "validate")

    def on_test_start(self) -> None:
        begin_run(self, "test")

    def on_predict_start(self) -> None:
        begin_run(self, "predict")

    def teardown(self, stage: str) -> None:
        give_back(self.lookup)

    def card(self) -> dict[str, Any]:
        path = None if self.lookup.memory is None else self.lookup.memory.path
        return {**super().card(), "memory": self.lookup.was_at if path is None else str(path)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        place = checkpoint.get(KEY, {}).get("card", {}).get("memory")
        # Told, and not opened: anybody may have written it.
        self.lookup.was_at = place if isinstance(place, str) else None
