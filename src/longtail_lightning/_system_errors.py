"""Say in one sentence what the system has refused: space, memory, open files, rights."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from contextlib import suppress

SHARED_MEMORY = (
    "The shared memory (/dev/shm), through which loading processes hand over batches, is full: give it more room "
    "(docker run --shm-size=8g), or use fewer num_workers, or num_workers=0."
)
OPEN_FILES = "Too many files are open at once: raise the limit with `ulimit -n 65536`, or use fewer num_workers."
_MEMORY = "The memory is used up{}: use a smaller batch_size or fewer num_workers, or give the process more memory."
_GPU_MEMORY = "The memory of the GPU is used up: use a smaller batch_size, or --trainer.precision bf16-mixed."
_THREADS = "The system starts no more threads or processes: raise the limit (`ulimit -u`), or use fewer num_workers."

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)

# Errors of torch have no type of their own: words of the message, and what to say. The first that fits.
_WORDS = (
    (r"Too many open files|received 0 items of ancdata", OPEN_FILES),
    (r"</?torch_\d.*(?:No space left|File too large)", SHARED_MEMORY),  # the name of a piece of shared memory
    (r"CUDA out of memory", _GPU_MEMORY),
    (r"DefaultCPUAllocator: (?:can't allocate|not enough) memory|Cannot allocate memory", _MEMORY),
    (r"failed to map segment from shared object", _MEMORY),
    (r"can't start new thread", _THREADS),
)


def sentence_for_system_error(error: BaseException) -> str | None:
    """What to tell the user of an error of the operating system; None for others.

    Examples:
        >>> sentence_for_system_error(PermissionError(13, "Permission denied", "runs/a.csv"))
        'runs/a.csv: Permission denied: change its rights, or give another place.'
        >>> sentence_for_system_error(KeyError("x")) is None
        True
    """
    if isinstance(error, MemoryError):
        return _MEMORY.format(_amount(str(error)))
    if isinstance(error, OSError):
        return _of_file_system(error)
    if isinstance(error, (RuntimeError, ImportError, ValueError)):  # jsonargparse keeps the words alone
        text = str(error)
        for words, sentence in _WORDS:
            if re.search(words, text, re.DOTALL):
                return sentence.format(_amount(text))
    return None


def _of_file_system(error: OSError) -> str | None:
    if error.errno in _TOO_MANY_FILES:
        return OPEN_FILES
    if error.errno == errno.ENOMEM:
        return _MEMORY.format("")
    # Of a copy, the second file is the one that is written.
    name = error.filename2 or error.filename
    file = os.fsdecode(name) if isinstance(name, (str, bytes)) else None
    if error.errno in _FULL:
        full = f"{file} cannot be written: the disk is full" if file else f"A file cannot be written: {_which_disk()}"
        return f"{full}. Free some space, or give another place."
    # A file that is missing where the program expects one is a fault of the program.
    if file is None or error.errno in (None, errno.ENOENT):
        return None
    fix = "change its rights, or give another place"
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        fix = "give another one"
    return f"{file}: {error.strerror}: {fix}."


def _which_disk() -> str:
    """The disk that is full, where an error does not name the file, as when it is closed."""
    found = []
    for folder in dict.fromkeys((os.curdir, tempfile.gettempdir())):
        with suppress(OSError):  # the folder may be gone
            if shutil.disk_usage(folder).free < 1 << 20:
                found.append(os.path.abspath(folder))
    return f"the disk{' of ' if found else ''}{' and '.join(found)} is full"


def _amount(text: str) -> str:
    """How much was asked for, as numpy and torch say it.

    Examples:
        >>> _amount("Unable to allocate 29.8 GiB for an array with shape (4000000000,)")
        ' (29.8 GiB were asked for)'
        >>> _amount("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000000 bytes.")
        ' (3.6 TiB were asked for)'
    """
    if match := re.search(r"allocate ([\d.]+ [KMGTP]iB)", text):
        return f" ({match[1]} were asked for)"
    if match := re.search(r"allocate (\d+) bytes", text):
        size, units = float(match[1]), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
        while size >= 1024 and len(units) > 1:
            size, units = size / 1024, units[1:]
        return f" ({size:.1f} {units[0]} were asked for)"
    return ""
