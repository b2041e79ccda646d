"""Checkpoints that load with nothing passed: plain descriptions of a module's parts beside its weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
from torch import Tensor, nn

import longtail_lightning
from longtail_lightning._errors import LongTailError
from longtail_lightning._known_classes import UnknownClassError, class_named
from longtail_lightning._lightning import HYPER_PARAMETERS, attached_trainer
from longtail_lightning._spec import NotPlainError, describe, plain_items, rebuild, without_starts
from longtail_lightning._torch_files import read_torch_file, write_torch_file
from longtail_lightning.modules._description import KEY, require_description, require_plausible_size

# What belongs to the training that made a checkpoint, and to the parts that it trained.
OF_TRAINING = ("optimizer_states", "lr_schedulers", "callbacks", "current_model_state", "averaging_state")


class MissingPart(nn.Module):
    """Stands for a part that a checkpoint brings.

    Args:
        role: what the module calls the part.
    """

    def __init__(self, role: str) -> None:
        super().__init__()
        self.role = role

    def forward(self, *_: Any) -> NoReturn:
        raise LongTailError(f"The {self.role} is missing: load a checkpoint that has one, or pass {self.role}=...")


# -- writing -------------------------------------------------------------------------------------


def describe_module(module: Any, checkpoint: dict[str, Any]) -> None:
    """Put the parts as they are now into a checkpoint, and leave only plain values of the hyper-parameters."""
    checkpoint[KEY] = {
        "version": longtail_lightning.__version__,
        "class_path": f"{type(module).__module__}.{type(module).__qualname__}",
        "parts": {name: _described(getattr(module, name)) for name in module.parts},
        "shared": _shared(module),
        "trainable": [name for name, parameter in module.named_parameters() if parameter.requires_grad],
        "card": module.card(),
    }
    if HYPER_PARAMETERS in checkpoint:
        kept = without_starts(plain_items(checkpoint[HYPER_PARAMETERS]))
        kept.update({name: value for name, value in module.start_only.items() if name in kept})
        kept["class_counts"] = module.class_counts.tolist()
        if kept.get("class_names") is not None:  # those it was made with may be others
            kept["class_names"] = module.class_names
        checkpoint[HYPER_PARAMETERS] = kept


def write_changed(module: Any, source: str | Path | None, path: str | Path) -> Path:
    """Write a model that was changed after its training; what belongs to the training is left out.

    Args:
        module: the model.
        source: the checkpoint that it came from, if it did.
        path: the new file.
    """
    checkpoint: dict[str, Any] = {"pytorch-lightning_version": L.__version__, "epoch": 0, "global_step": 0, "loops": {}}
    checkpoint |= {HYPER_PARAMETERS: dict(module.hparams)} if source is None else read_checkpoint(source)
    for key in OF_TRAINING:
        checkpoint.pop(key, None)
    checkpoint["state_dict"] = module.state_dict()
    module.on_save_checkpoint(checkpoint)
    return write_torch_file(path, checkpoint)


def _described(part: Any) -> dict[str, Any]:
    try:
        spec = describe(part)
    except NotPlainError:
        spec = None
    return {"class": type(part).__qualname__, "spec": spec}


def _shared(module: Any) -> list[list[str]]:
    """Names of each module that stands in several places of the parts: what is rebuilt must share it again."""
    places: dict[int, list[str]] = {}
    for name, inner in module.named_modules(remove_duplicate=False):
        if name.partition(".")[0] in module.parts:
            places.setdefault(id(inner), []).append(name)
    return [names for names in places.values() if len(names) > 1]


# -- reading -------------------------------------------------------------------------------------


def read_checkpoint(path: str | Path, *, verify: bool = False) -> dict[str, Any]:
    """What a checkpoint of Lightning holds: tensors and plain values.

    Args:
        path: the file.
        verify: compare the whole file with its checksum.
    """
    checkpoint: dict[str, Any] = read_torch_file(path, verify=verify)
    weights = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise LongTailError(f"{path} is not a checkpoint of Lightning: give another file.")
    return checkpoint


def restore_parts(module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Rebuild each part that differs from what the checkpoint was saved with.

    A part that was passed to `load_from_checkpoint` stays. So does the loss when a trainer resumes:
    it is the one in the script or config that was asked for.
    """
    passed, described = checkpoint.get(HYPER_PARAMETERS, {}), set()
    for name, saved in checkpoint.get(KEY, {}).get("parts", {}).items():
        if isinstance(passed.get(name), nn.Module) or (name == "loss" and attached_trainer(module) is not None):
            continue
        part = getattr(module, name, None)
        if saved["spec"] is None:
            if type(part).__qualname__ != saved["class"]:
                raise LongTailError(
                    f"The checkpoint's {name} is a {saved['class']}, which cannot be described in plain values: "
                    f"load it with load_from_checkpoint(path, {name}=...), or load(path, parts={{{name!r}: ...}})."
                )
            continue
        described.add(name)
        if _described(part)["spec"] != saved["spec"]:
            counts = getattr(module, "class_counts", None)
            require_plausible_size(name, saved["spec"], counts, checkpoint["state_dict"])
            made = rebuild(saved["spec"], counts)
            if isinstance(part, nn.Module) and not isinstance(made, nn.Module):
                raise LongTailError(f"The checkpoint's {name} is no module: it is damaged; give another file.")
            setattr(module, name, made.to(module.device) if isinstance(made, nn.Module) else made)
    for first, *others in checkpoint.get(KEY, {}).get("shared", ()):
        if {name.partition(".")[0] for name in (first, *others)} <= described:
            for name in others:
                try:
                    module.set_submodule(name, module.get_submodule(first))
                except AttributeError as error:
                    raise LongTailError(
                        f"The checkpoint says that its parts share {first} and {name}, which are not there: it is "
                        "damaged; give another file."
                    ) from error


def restore_trainable(module: L.LightningModule, names: Sequence[str]) -> None:
    """Train what was trained before the stop, if the optimizers hold it.

    Lightning's `BackboneFinetuning` freezes the backbone again when a run resumes, although its
    parameters are in the optimizer.
    """
    held = {
        id(p) for optimizer in module.trainer.optimizers for group in optimizer.param_groups for p in group["params"]
    }
    for name, parameter in module.named_parameters():
        if name in names and id(parameter) in held:
            parameter.requires_grad_(True)


def build_module(path: str | Path, parts: Mapping[str, Any], *, verify: bool = False) -> L.LightningModule:
    """The module of a checkpoint with its weights; nothing is trained, downloaded or built in vain.

    Args:
        path: a checkpoint of a module of this library, or of a child whose file is imported.
        parts: those that the checkpoint cannot describe, by name.
        verify: compare the whole file with its checksum.
    """
    checkpoint = read_checkpoint(path, verify=verify)
    if KEY not in checkpoint:
        raise LongTailError(
            f"{path} does not describe its parts, so it was not written by a module of this library: build your "
            "module, and read the weights with longtail_lightning.load_weights(module, path)."
        )
    require_description(checkpoint, path)
    cls = _module_class(checkpoint[KEY]["class_path"])
    accepted = inspect.signature(cls).parameters
    if unknown := sorted(parts.keys() - accepted.keys()):
        raise LongTailError(f"{path} is of a {cls.__name__}, which takes no {unknown[0]}: leave it out.")
    saved = checkpoint.get(HYPER_PARAMETERS, {})
    # The command line keeps settings of parts and optimizers here; the descriptions of the parts replace them.
    settings = {name: value for name, value in saved.items() if name in accepted and not _is_spec(value)}
    # Any LightningModule that is imported may be named; those that do not describe their parts have none.
    settings |= {name: value for name, value in getattr(cls, "start_only", {}).items() if name in accepted}
    if "class_counts" in accepted:  # which not every module keeps among its hyper-parameters
        settings["class_counts"] = checkpoint[KEY]["card"]["class_counts"]
    for name in checkpoint[KEY]["parts"]:
        if name in accepted:
            settings.pop(name, None)
            if accepted[name].default is not None:  # the default would be built, only to be replaced
                settings[name] = MissingPart(name)
    try:
        module: L.LightningModule = cls(**{**settings, **parts})
    except TypeError as error:
        raise LongTailError(
            f"{path} is of a {cls.__name__}, which cannot be made from {', '.join(settings) or 'nothing'} ({error}): "
            "pass what is missing to load(path, parts={...}), or give the arguments of its parts a default of None."
        ) from error
    checkpoint[HYPER_PARAMETERS] = {**saved, **parts}
    module.on_load_checkpoint(checkpoint)
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:  # of torch, with a line for each weight
        wrong = str(error).splitlines()[1:2] or [str(error)]
        raise LongTailError(
            f"{path}: the weights do not fit the parts ({wrong[0].strip()[:200]}): the file is damaged, or a part was "
            "passed that is another one."
        ) from error
    return module.eval()


def _is_spec(value: Any) -> bool:
    return isinstance(value, dict) and "class_path" in value


def _module_class(class_path: str) -> Any:
    """The class that a checkpoint names: of this package, or imported already."""
    cls = class_named(class_path)
    if cls is None or not issubclass(cls, L.LightningModule):
        raise UnknownClassError(class_path)
    return cls
