"""Which error came first, when closing raised others."""

from __future__ import annotations

from longtail_lightning._errors import LongTailError

_ENDED = "_longtail_ended_run"


def mark(error: BaseException) -> None:
    """Note that an error has ended a run: what is raised after it comes from closing."""
    vars(error)[_ENDED] = True


def causes(error: BaseException) -> list[list[BaseException]]:
    """An error and those before it, the last one first, each in a list with those that it was raised `from`.

    They begin with the error that ended the run, if one is marked.

    Examples:
        >>> try:
        ...     try:
        ...         raise LongTailError("the cause") from KeyError("inside")
        ...     finally:
        ...         raise OSError("while closing")
        ... except OSError as error:
        ...     causes(error)
        [[OSError('while closing')], [LongTailError('the cause'), KeyError('inside')]]
    """
    groups: list[list[BaseException]] = [[]]
    earlier: BaseException | None = error
    seen: set[int] = set()
    while earlier is not None and id(earlier) not in seen:
        seen.add(id(earlier))
        if vars(earlier).get(_ENDED):
            groups = groups[-1:]
        groups[-1].append(earlier)
        if earlier.__cause__ is not None:
            earlier = earlier.__cause__
        else:
            earlier = None if earlier.__suppress_context__ else earlier.__context__
            groups.append([])
    return [group for group in groups if group]


def first_of_ours(error: BaseException) -> LongTailError | None:
    """The sentence for the user: the first one that was raised, in the words of the last one to tell it."""
    for group in reversed(causes(error)):
        for cause in group:
            if isinstance(cause, LongTailError):
                return cause
    return None
