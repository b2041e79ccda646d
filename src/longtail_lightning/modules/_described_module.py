"""A LightningModule that describes itself: its checkpoints load, test and predict with nothing passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning._known_classes import require_known
from longtail_lightning._lightning import attached_trainer, checked_imports, known_instantiators
from longtail_lightning.counts import ClassCounts, Convention
from longtail_lightning.datasets import ImageTransforms
from longtail_lightning.modules._checkpoint import describe_module, restore_parts, restore_trainable
from longtail_lightning.modules._description import KEY, PARTS, require_description


class DescribedModule(L.LightningModule):
    """Base of the modules: a checkpoint holds a plain description of the parts, and a card.

    The card tells what the module knows: names and counts of its classes, how its images are prepared, and
    the bounds of the shot splits. In a fit the data say so; outside of it the card of the checkpoint wins, so
    that a model whose classes were added or removed tests and predicts like any other.

    `BaseClassifier` is one; a child of this class that sets `class_counts` and names its `parts` is another,
    whatever it is made of. Parts that a checkpoint brings are arguments with a default of None.

    Examples:
        >>> from torch import nn
        >>> class Mine(DescribedModule):
        ...     parts = ("encoder", "heads")
        ...     start_only = {"teacher": None}
        ...     def __init__(self, class_counts, *, encoder=None, heads=None, teacher=None):
        ...         super().__init__()
        ...         self.class_counts = ClassCounts(class_counts)
        ...         self.encoder, self.heads = encoder, nn.ModuleList(heads)
        >>> mine = Mine([9, 3], encoder=nn.Linear(4, 4), heads=[nn.Linear(4, 2), nn.Linear(4, 2)])
        >>> mine.on_save_checkpoint(checkpoint := {})
        >>> checkpoint["longtail_lightning"]["parts"]["heads"]["class"]
        'ModuleList'
    """

    parts: ClassVar[tuple[str, ...]] = ()
    """Attributes that make up the module, modules or lists and dicts of them; a checkpoint describes each."""
    start_only: ClassVar[Mapping[str, Any]] = {}
    """Arguments that only say where a run starts, and the value that a checkpoint holds in their place."""

    needed_to_resume: ClassVar[tuple[str, ...]] = ()
    """Of these, what a run needs again when it goes on, such as teachers."""

    outside: ClassVar[tuple[str, ...]] = ()
    """Arguments that are no part of the module, such as a memory: a checkpoint neither holds nor replaces them."""

    class_counts: ClassCounts
    class_names: list[str] | None = None
    """One name per class; those of the data module, when there is one."""
    many: int = 100
    few: int = 20
    convention: Convention = "kang"
    input: dict[str, Any] | None = None
    """Shape of an image (or of features) as the module gets it, and what made it so."""
    _saw_image: bool = False  # in this fit
    _trained: Sequence[str] = ()  # names of what a loaded checkpoint was training

    def __init__(self) -> None:
        super().__init__()

    @property
    def query_encoder(self) -> nn.Module:
        """What makes the features that a memory is searched with."""
        encoder: nn.Module = self.backbone  # type: ignore[assignment]
        return encoder

    def card(self) -> dict[str, Any]:
        """What a checkpoint tells about the module, in plain values."""
        return {
            "class_names": self.class_names,
            "class_counts": self.class_counts.tolist(),
            "many": self.many,
            "few": self.few,
            "convention": self.convention,
            "input": self.input,
        }

    def set_classes(self, class_counts: ClassCounts | Sequence[int], class_names: Sequence[str] | None = None) -> None:
        """Take over other classes, after the head was replaced by one of as many outputs.

        Args:
            class_counts: training images per class.
            class_names: one name per class.
        """
        counts = ClassCounts(class_counts)
        if class_names is not None and len(class_names) != len(counts):
            raise LongTailError(f"{len(class_names)} class names for {len(counts)} classes: give one for each.")
        before, self.class_counts = self.class_counts, counts
        self.class_names = None if class_names is None else [str(name) for name in class_names]
        for part in self.modules():
            # A part that was bound to the module's counts gets the new ones; a part with its own counts keeps them.
            bound: Any = getattr(part, "class_counts", None)
            bind: Any = getattr(part, "bind_class_counts", None)
            if bind is not None and bound is not None and ClassCounts(bound) == before:
                bind(counts)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Lightning's method, with its arguments; no code of the file is run, and no module imported because of it.

        Args:
            checkpoint_path: the file.
            map_location: where tensors go, as in `torch.load`.
            hparams_file: hyper-parameters in the place of those of the checkpoint.
            strict: whether all weights have to match.
            weights_only: only tensors and plain values are read; False runs code of the file.
            kwargs: arguments of the module, such as parts that the checkpoint cannot describe.
        """
        # Files and folders that its settings name are not opened: anybody may have written them.
        starts = {name: empty for name, empty in cls.start_only.items() if name not in kwargs}
        with checked_imports(partial(require_known, kinds=PARTS)), known_instantiators(starts):
            return super().load_from_checkpoint(
                checkpoint_path, map_location, hparams_file, strict, weights_only is not False, **kwargs
            )

    # -- hooks -----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take class names and the preparation of images from the data that the module is trained on."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if stage != "fit":
            self._compare_names(self.class_names)
            return
        self._saw_image = False
        if datamodule is None:
            return
        names = getattr(datamodule, "class_names", None)
        if names is not None and len(names) == len(self.class_counts):
            self.class_names = [str(name) for name in names]
        # A fit that trains nothing sees no image: the shape stays what it was.
        shape, described = (self.input or {}).get("shape"), describe_input(datamodule)
        self.input = described if shape is None else {**(described or {}), "shape": shape}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Remember the shape of an image."""
        images = batch[0] if isinstance(batch, (list, tuple)) and batch else batch
        if isinstance(images, Tensor) and not self._saw_image:
            self._saw_image = True
            self.input = {**(self.input or {}), "shape": list(images.shape[1:])}

    def on_train_start(self) -> None:
        restore_trainable(self, self._trained)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        describe_module(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_description(checkpoint, "The checkpoint")
        trainer = attached_trainer(self)
        fits = trainer is not None and trainer.state.fn == "fit"
        card = checkpoint.get(KEY, {}).get("card")
        if card and fits:
            if len(card["class_counts"]) != len(self.class_counts):
                raise LongTailError(
                    f"The checkpoint is of a run on {len(card['class_counts'])} classes and the data have "
                    f"{len(self.class_counts)}: go on with the data of that run, or begin a new one without ckpt_path."
                )
            if "shape" in (card["input"] or {}):  # a run that has ended already sees no image
                self.input = {"shape": card["input"]["shape"], **(self.input or {})}
            self._compare_names(card["class_names"])
        elif card:
            self.many, self.few, self.input = card["many"], card["few"], card["input"]
            self.convention = card.get("convention", "kang")  # which first versions did not write
            self.set_classes(card["class_counts"], card["class_names"])
            self._compare_names(self.class_names)
        restore_parts(self, checkpoint)
        # Only in a resumed run: a model that is merely loaded trains what its user says.
        self._trained = checkpoint.get(KEY, {}).get("trainable", ()) if trainer is not None else ()

    def _compare_names(self, own: Sequence[str] | None) -> None:
        """Warn when a class of the data has another name than that of a trained model: labels are numbers."""
        try:
            names = getattr(getattr(attached_trainer(self), "datamodule", None), "class_names", None)
        except (LongTailError, OSError):  # who tests may have no training images, which tell the names
            return
        pairs = [] if own is None or names is None else list(enumerate(zip(own, names)))
        if any(all(str(place) == pair[side] for place, pair in pairs) for side in (0, 1)):
            return  # numbers, in the place of names that nobody gave
        for place, (first, second) in pairs:
            if first != second:
                rank_zero_warn(
                    f"Class {place} is {first!r} to the trained model and {second!r} in the data, and labels are "
                    "compared by number: bring the classes of the data into the order of the model's, or use the "
                    "command line (`ltl test`), which matches them by name."
                )
                return


def describe_input(datamodule: Any) -> dict[str, Any] | None:
    """What evaluation does to an image between the file and the module; None when the data module does not say.

    Args:
        datamodule: any data module.
    """
    transforms = getattr(datamodule, "transforms", None)
    evaluation = transforms.describe_evaluation() if isinstance(transforms, ImageTransforms) else None
    if evaluation is None:
        return None
    mean, std = (None if value is None else [float(x) for x in value] for value in (datamodule.mean, datamodule.std))
    return {**evaluation, "mean": mean, "std": std}
