"""Long-tailed CIFAR-10 and CIFAR-100, the benchmarks of Cao et al. 2019."""

from __future__ import annotations

import os
import time
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import download_and_extract_archive
from typing_extensions import Unpack

from longtail_lightning._errors import LongTailError
from longtail_lightning.data.datamodule import LongTailDataModule, Split
from longtail_lightning.data.options import SubsetOptions
from longtail_lightning.datasets.array_images import ArrayImages
from longtail_lightning.datasets.presets import TransformsLike, as_transforms
from longtail_lightning.datasets.read_cifar import read_batches

_PATIENCE = 1800  # seconds that the other processes of a machine wait for a download

_CIFAR100_NAMES = """
apple, aquarium fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy, bridge, bus, butterfly,
camel, can, castle, caterpillar, cattle, chair, chimpanzee, clock, cloud, cockroach, couch, crab, crocodile,
cup, dinosaur, dolphin, elephant, flatfish, forest, fox, girl, hamster, house, kangaroo, keyboard, lamp, lawn
mower, leopard, lion, lizard, lobster, man, maple tree, motorcycle, mountain, mouse, mushroom, oak tree, orange,
orchid, otter, palm tree, pear, pickup truck, pine tree, plain, plate, poppy, porcupine, possum, rabbit,
raccoon, ray, road, rocket, rose, sea, seal, shark, shrew, skunk, skyscraper, snail, snake, spider, squirrel,
streetcar, sunflower, sweet pepper, table, tank, telephone, television, tiger, tractor, train, trout, tulip,
turtle, wardrobe, whale, willow tree, wolf, woman, worm
"""


class _CIFARLT(LongTailDataModule):
    """What CIFAR-10 and CIFAR-100 have in common; a child names the files and the classes."""

    official: type[CIFAR10]
    """torchvision's class, which knows the archive and the names of its files."""
    labels_key: str
    """What the labels are called in the files."""
    names: tuple[str, ...]
    """The classes, in the order of the labels."""
    preset: str
    """The papers' transforms."""

    def __init__(
        self,
        root: str | Path = "data",
        *,
        download: bool = False,
        imbalance_factor: float | None = 100.0,
        transforms: TransformsLike | None = None,
        val_split: float = 0.0,
        **options: Unpack[SubsetOptions],
    ) -> None:
        super().__init__(
            transforms=as_transforms(transforms if transforms is not None else self.preset),
            val_split=val_split,
            imbalance_factor=imbalance_factor,
            **options,
        )
        self.root = root
        self.download = download

    @property
    def num_classes(self) -> int:
        return len(self.names)

    def build_class_names(self) -> list[str]:
        return list(self.names)

    def prepare_data(self) -> None:
        """Download the images, if that is wanted and they are not there."""
        _ = self._folder

    def build(self, split: Split) -> ArrayImages | None:
        if split == "val":
            return None
        files = self.official.train_list if split == "train" else self.official.test_list
        return read_batches([self._folder / name for name, _ in files], self.labels_key)

    @cached_property
    def _folder(self) -> Path:
        """Where the batches are. Asked for before `prepare_data` too: class counts need the labels."""
        root = Path(self.root)
        for folder in (root / self.official.base_folder, root):
            if self._is_complete(folder):
                return folder
        folder = root / self.official.base_folder
        if not self.download or folder.is_dir():
            raise LongTailError(self._missing(root))
        if int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))) > 0:
            self._wait_for(folder)
        else:
            self._fetch(root)
        return folder

    def _is_complete(self, folder: Path) -> bool:
        return all((folder / name).is_file() for name, _ in self.official.train_list + self.official.test_list)

    def _missing(self, root: Path) -> str:
        folder, archive = root / self.official.base_folder, self.official.filename
        names = [name for name, _ in self.official.train_list + self.official.test_list]
        if root.is_file():
            return f"root={root} is a file: unpack it, and give the folder that holds {self.official.base_folder}."
        if folder.is_dir():
            absent = ", ".join(name for name in names if not (folder / name).is_file())
            return f"{folder} lacks {absent}: delete the folder, and unpack {archive} again or set download=True."
        if (root / archive).is_file():
            return f"{root / archive} is not unpacked: run `tar xzf {archive}` in {root}, or set download=True."
        return (
            f"There is no {folder}: set download=True (--data.download true), or set root to the folder that holds "
            f"{self.official.base_folder} with {', '.join(names)}."
        )

    def _fetch(self, root: Path) -> None:
        official, target = self.official, root / self.official.base_folder
        try:
            root.mkdir(parents=True, exist_ok=True)
            # Unpacked beside its place and then renamed: other processes see all of it or nothing.
            with TemporaryDirectory(dir=root, prefix=".download-") as temporary:
                there = root if (root / official.filename).is_file() else Path(temporary)
                download_and_extract_archive(
                    official.url, there, temporary, filename=official.filename, md5=official.tgz_md5
                )
                if not self._is_complete(target):
                    (Path(temporary) / official.base_folder).rename(target)
        except (OSError, RuntimeError) as error:
            raise LongTailError(
                f"{official.url} could not be downloaded to {root} ({str(error).splitlines()[0]}): download it by "
                f"other means and unpack it there, so that {target} exists."
            ) from error

    def _wait_for(self, folder: Path) -> None:
        for _ in range(_PATIENCE):
            if self._is_complete(folder):
                return
            time.sleep(1)
        raise LongTailError(f"{folder} did not appear within {_PATIENCE} s: see what the first process says.")


class CIFAR10LT(_CIFARLT):
    """CIFAR-10 with a long tail: class 0 keeps 5000 images, class 9 keeps 5000 / imbalance_factor.

    With the default arguments it is the training set of Cao et al. 2019 (LDAM) image by image: 12,406 images
    at factor 100. The test set stays balanced, 1000 images of each class.

    Args:
        root: the folder that holds `cifar-10-batches-py`, or that folder itself.
        download: fetch the images (170 MB) when they are not there.
        imbalance_factor: largest over smallest class; the papers use 10, 50, 100 and 200. None takes all images.
        transforms: transforms, or the name of a preset; crop and mirror as in the papers when None.
        val_split: share of each training class to hold out; the benchmark has no validation images.
        options: those that all data modules share, see `LongTailDataModule`.

    Examples:
        >>> data = CIFAR10LT("my_data", imbalance_factor=50, profile="step")
        >>> data.class_names[:3], data.num_classes
        (['airplane', 'automobile', 'bird'], 10)
    """

    official = CIFAR10
    labels_key = "labels"
    preset = "cifar10"
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class CIFAR100LT(_CIFARLT):
    """CIFAR-100 with a long tail: class 0 keeps 500 images, class 99 keeps 500 / imbalance_factor.

    With the default arguments it is the training set of Cao et al. 2019 (LDAM) image by image: 10,847 images
    at factor 100. The test set stays balanced, 100 images of each class.

    Args:
        root: the folder that holds `cifar-100-python`, or that folder itself.
        download: fetch the images (169 MB) when they are not there.
        imbalance_factor: largest over smallest class; the papers use 10, 50, 100 and 200. None takes all images.
        transforms: transforms, or the name of a preset; crop and mirror as in the papers when None.
        val_split: share of each training class to hold out; the benchmark has no validation images.
        options: those that all data modules share, see `LongTailDataModule`.

    Examples:
        >>> data = CIFAR100LT("my_data", val_split=0.1)
        >>> data.class_names[:3], data.num_classes
        (['apple', 'aquarium fish', 'baby'], 100)
    """

    official = CIFAR100
    labels_key = "fine_labels"
    preset = "cifar100"
    names = tuple(" ".join(_CIFAR100_NAMES.split()).split(", "))
