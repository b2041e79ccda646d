"""Where the vectors of words come from: drawn at random, or read from a file."""

from __future__ import annotations

import warnings
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np

from longtail_lightning._errors import LongTailError
from longtail_lightning._open_file import open_file


class WordVectors(Protocol):
    """From a word to its vector; None for a word without one."""

    def __call__(self, word: str) -> np.ndarray | None: ...


class RandomVectors:
    """A vector for every word, uniform over [0, 1): a function of (seed, word) alone.

    Args:
        dim: width of the vectors.
        seed: other vectors of the same words.
        standardized: shift and scale them to mean 0 and variance 1.
    """

    def __init__(self, dim: int, seed: int, *, standardized: bool) -> None:
        self.dim = dim
        self.seed = seed
        self.standardized = standardized

    def __call__(self, word: str) -> np.ndarray:
        digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8, key=str(self.seed).encode()[:64])
        # The stream of this generator is fixed for all versions of numpy, unlike that of its distributions.
        bits = np.random.PCG64(int.from_bytes(digest.digest(), "little")).random_raw(self.dim)
        numbers = (bits >> np.uint64(40)).astype(np.float64) * 2.0**-24
        return ((numbers - 0.5) * 12**0.5 if self.standardized else numbers).astype(np.float32)


class NoVectors:
    """No word has a vector but those that are known already, which a checkpoint brings."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, word: str) -> None:
        if not self._told:
            self._told = True
            warnings.warn(
                f"The word {word!r} has no vector in the checkpoint, and the file of word vectors is not here, so it "
                "is read as nothing, as other new words are: load(path, parts={'text_encoder': "
                "BagOfWords(vectors=FILE), ...}) knows all words of the file.",
                stacklevel=2,
            )


class FileVectors:
    """The vectors of a text file, each read when it is asked for.

    Args:
        path: one word and its numbers a line.
        dim: how many numbers.
    """

    def __init__(self, path: str | Path, dim: int) -> None:
        self.path = Path(path).expanduser()
        self.dim = dim
        self._start: dict[bytes, int] = {}
        place = 0
        try:
            with open_file(self.path) as file:
                for line in file:
                    # A word may hold spaces; the numbers do not.
                    self._start.setdefault(line.rstrip().rsplit(b" ", dim)[0], place)
                    place += len(line)
        except OSError as error:
            raise LongTailError(
                f"vectors={str(path)!r} cannot be read ({error.strerror or error}): give a text file of one word and "
                f"its {dim} numbers a line, such as glove.6B.{dim}d.txt."
            ) from error
        if (first := next(iter(self._start), None)) is not None:
            self(first.decode("utf-8", "replace"))  # refuses another width before anything is trained

    def __call__(self, word: str) -> np.ndarray | None:
        if (start := self._start.get(word.encode("utf-8", "surrogatepass"))) is None:
            return None
        with open_file(self.path) as file:
            file.seek(start)
            line = file.readline()
        try:
            vector = np.array(line.rstrip().rsplit(b" ", self.dim)[1:], np.float32)
        except ValueError:
            vector = np.empty(0, np.float32)
        if vector.shape != (self.dim,) or not np.isfinite(vector).all():
            raise LongTailError(
                f"{self.path}: the line of {word!r} does not hold {self.dim} numbers behind the word: give the file's "
                f"own width, dim=..., or another file."
            )
        return vector
