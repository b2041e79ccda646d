"""Write the table behind `ltl list backbones`: parameters of each backbone, without its classifier.

Run it when a new timm or torchvision is admitted: python tools/backbone_parameters.py
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
from longtail_lightning.backbones.factory import OWN_NAMES, create_backbone

TABLE = Path(longtail_lightning.__file__).parent / "backbones" / "parameters.json"


def main() -> None:
    """Build each backbone on the meta device and count."""
    names = [*OWN_NAMES]
    names += [f"torchvision/{name}" for name in torchvision.models.list_models(module=torchvision.models)]
    names += [f"timm/{name}" for name in timm.list_models()]
    table: dict[str, int] = {}
    skipped: list[str] = []
    for name in track(names, "backbones"):
        try:
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                table[name] = sum(parameter.numel() for parameter in create_backbone(name).parameters())
        except Exception as error:  # some models cannot be built on the meta device
            skipped.append(f"{name}: {type(error).__name__}: {str(error)[:80]}")
    lines = ",\n".join(f" {json.dumps(name)}: {count}" for name, count in table.items())
    TABLE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    print(f"{len(table)} written, {len(skipped)} skipped", *skipped, sep="\n")


if __name__ == "__main__":
    main()
