"""The one error users meet: a sentence that says what was wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LongTailError(ValueError):
    """Something the user gave cannot work; the message contains the fix.

    The command line prints the message alone and exits with status 2. A subclass that
    code handles in its own way keeps its facts in fields, which are keyword arguments with defaults, so that it
    can be sent to another process. Code never decides by the words of a message.

    Examples:
        >>> import longtail_lightning
        >>> try:
        ...     longtail_lightning.ClassCounts([])
        ... except LongTailError as error:
        ...     isinstance(error, ValueError)
        True
    """


def did_you_mean(name: str, options: Iterable[str], *, listing: str = "") -> str:
    """End an error sentence with the closest names, or with where to find all of them.

    Examples:
        >>> did_you_mean("LogitAdjustLoss", ["LogitAdjustedLoss", "CrossEntropyLoss"])
        'Did you mean LogitAdjustedLoss?'
        >>> did_you_mean("zebra", ["horse"], listing="ltl list losses")
        'See `ltl list losses`.'
    """
    options = list(options)
    folded = {option.lower(): option for option in options}
    close = [folded[match] for match in get_close_matches(name.lower(), folded, n=3, cutoff=0.6)]
    if close:
        return f"Did you mean {' or '.join(close)}?"
    if listing:
        return f"See `{listing}`."
    return f"Choose one of {', '.join(options)}."
