"""Which error came first, when closing raised others."""

from __future__ import annotations

_ENDED = "_longtail_ended_run"


def mark(error: BaseException) -> None:
    """Note that an error has ended a run: what is raised after it comes from closing."""
    vars(error)[_ENDED] = True


def causes(error: BaseException) -> list[BaseException]:
    """An error and those before it, the last one first; it begins with the one that ended the run, if one is marked.

    Examples:
        >>> try:
        ...     try:
        ...         raise ValueError("the cause")
        ...     finally:
        ...         raise OSError("while closing")
        ... except OSError as error:
        ...     [str(cause) for cause in causes(error)]
        ['while closing', 'the cause']
    """
    found: list[BaseException] = []
    earlier: BaseException | None = error
    while earlier is not None and earlier not in found:
        found.append(earlier)
        hidden = earlier.__suppress_context__
        earlier = earlier.__cause__ or (None if hidden else earlier.__context__)
    ended = [place for place, cause in enumerate(found) if vars(cause).get(_ENDED)]
    return found[ended[-1] :] if ended else found
