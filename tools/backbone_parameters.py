"""Write the table behind `ltl list backbones`: parameters of each backbone, without its classifier.

Run it when a new timm or torchvision is admitted; names in the table are kept, new ones are added:
python tools/backbone_parameters.py
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import timm
import torch
import torchvision
from rich.progress import track

import longtail_lightning
from longtail_lightning._errors import LongTailError
from longtail_lightning.backbones.factory import OWN_NAMES, create_backbone

TABLE = Path(longtail_lightning.__file__).parent / "backbones" / "parameters.json"


def count(name: str) -> int:
    """Parameters of a backbone; built without memory where its constructor allows that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"):
                backbone = create_backbone(name)
        except (NotImplementedError, RuntimeError):
            backbone = create_backbone(name)
    return sum(parameter.numel() for parameter in backbone.parameters())


def main() -> None:
    """Build each backbone on the meta device and count."""
    names = [*OWN_NAMES]
    names += [f"torchvision/{name}" for name in torchvision.models.list_models(module=torchvision.models)]
    names += [f"timm/{name}" for name in timm.list_models()]
    known = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    table: dict[str, int] = {}
    skipped: list[str] = []
    for name in track(names, "backbones"):
        try:
            table[name] = known[name] if name in known else count(name)
        except LongTailError as error:
            skipped.append(str(error))
    lines = ",\n".join(f" {json.dumps(name)}: {count}" for name, count in table.items())
    TABLE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    print(f"{len(table)} written, {len(skipped)} skipped", *skipped, sep="\n")


if __name__ == "__main__":
    main()
