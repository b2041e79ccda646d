"""What a student asks of its teachers and its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number, require_whole
from longtail_lightning.backbones import ProjectedBackbone
from longtail_lightning.callbacks._counts import datamodule_of
from longtail_lightning.data import LongTailDataModule
from longtail_lightning.modules._teachers import Teachers

_CHOICES = {
    "distill": ("features", "logits", "both"),
    "projection": ("linear", "linear_relu"),
    "teacher_features": ("exact", "cached"),
    "teacher_precision": ("32", "bf16"),
}


def require_options(options: Mapping[str, Any]) -> None:
    """Refuse impossible settings.

    Args:
        options: the arguments of a `Distillation`.
    """
    for name, choices in _CHOICES.items():
        if options[name] not in choices:
            raise LongTailError(f"Unknown {name}={options[name]!r}: choose {' or '.join(map(repr, choices))}.")
    require_number("Distillation", "alpha", options["alpha"], 0, 1)
    if options["alpha"] == 1:
        raise LongTailError("alpha=1 never trains the head: give less than 1; the paper has 0.4.")
    for name in ("beta", "alpha_by_count"):
        require_number("Distillation", name, options[name], 0)
    require_whole("Distillation", "views", options["views"], 1)


def as_wide(student: Any, teachers: Teachers, *, relu: bool) -> Any:
    """The student's backbone, with `h` on top where it needs it.

    Args:
        student: its backbone.
        teachers: of the features that it has to match.
        relu: whether `h` ends with one.
    """
    width = teachers.num_features
    if (len(teachers) == 1 or isinstance(student, ProjectedBackbone)) and student.num_features == width:
        return student
    return ProjectedBackbone(student, width, relu=relu)


def show_views(module: Any) -> None:
    """Let the data show as many augmentations of an image as the teachers will have seen, and say which one it is.

    Args:
        module: a `Distillation`, before the loader of its data is made.
    """
    data = datamodule_of(module.trainer)
    if isinstance(data, LongTailDataModule) and data.on_error == "skip":
        raise LongTailError(
            "teacher_features='cached' looks at every image, and on_error='skip' lets a run go on without some: take "
            "them out (`ltl data check` finds them), or choose teacher_features='exact'."
        )
    if not isinstance(data, LongTailDataModule):
        raise LongTailError(
            "teacher_features='cached' must know which images a batch holds: train with a data module of this "
            "library, or choose teacher_features='exact'."
        )
    data.show_views(module.views)


def begin_run(module: Any, began_with: Any) -> None:
    """Check the teachers, bring them to the student's device, and let them look ahead if they shall.

    Args:
        module: a `Distillation`.
        began_with: what a checkpoint tells about the teachers of its run.
    """
    teachers: Teachers = module.teachers
    teachers.forget()  # what a run that was interrupted has left
    if not len(teachers):
        raise LongTailError(_none_given(module, began_with))
    require_same_teachers(module, began_with)
    if module.distill != "features":
        for teacher in teachers.all:
            teacher.require_classes(module.class_names, len(module.class_counts))
    data = datamodule_of(module.trainer)
    for name in teachers.seen_validation(data):
        rank_zero_warn(
            f"The teacher {name} was trained with other images held out than this run: it has seen validation images, "
            "so validation looks better than the test will. Train it with the same val_split and seed."
        )
    teachers.given(data)
    teachers.to(module.device, channels_last=module.channels_last)
    if module.teacher_features == "cached":
        shown = module.trainer.progress_bar_callback is not None and module.trainer.is_global_zero
        teachers.remember(data, module.views, module.cache, device=module.device, progress=shown)


def require_same_teachers(module: Any, began_with: Any) -> None:
    """Refuse other teachers than those that a resumed run began with.

    Args:
        module: a `Distillation`.
        began_with: what its checkpoint tells about them.
    """
    if module.trainer.ckpt_path is not None:  # else it is a new run, of a model that was loaded
        module.teachers.require_unchanged(began_with)


def end_run(module: Any) -> None:
    """Free the device, and leave the data as they were.

    Args:
        module: a `Distillation`.
    """
    module.teachers.forget()
    module.teachers.to(torch.device("cpu"))
    if isinstance(data := datamodule_of(module.trainer), LongTailDataModule):
        data.show_views(None)


def _none_given(module: Any, began_with: Any) -> str:
    told = ""
    if isinstance(began_with, list) and began_with and all(isinstance(one, dict) for one in began_with):
        told = f"; the run began with {', '.join(str(one.get('name')) for one in began_with)}"
    from_command_line = module.teachers.from_command_line
    how = "--model.teachers FILE" if from_command_line else "Distillation(class_counts, teachers=[FILE, ...])"
    return f"Distillation needs teachers{told}: give {how}."
