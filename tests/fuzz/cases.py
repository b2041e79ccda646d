"""What the fuzz tests share: how many cases they draw, and what may happen to a case.

A few cases of each test, always the same, run with the other tests. `nox -s fuzz` draws thousands of others.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longtail_lightning import LongTailError

CASES = int(os.environ.get("FUZZ_CASES", "0"))
ran = 0


def fuzz(*strategies: Any, cost: int = 1, **named: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Call a test with many drawn values.

    Args:
        strategies: what to draw.
        cost: how much longer than others a case takes; so many fewer are drawn.
        named: what to draw, by name.
    """
    rules = settings(
        max_examples=max(1, (CASES or 10) // cost),
        deadline=None,
        derandomize=not CASES,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )

    def drawn(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def counted(*args: Any, **kwargs: Any) -> None:
            global ran
            ran += 1
            test(*args, **kwargs)

        return rules(given(*strategies, **named)(counted))

    return drawn


@contextmanager
def only_told() -> Iterator[None]:
    """Nothing but our error, in one sentence, may come out of here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except LongTailError as error:
        told = str(error)
        if not told.strip() or told.count("\n") > 8 or "Traceback" in told:
            raise AssertionError(f"no sentence: {told!r}") from error
        raise Told from error


class Told(Exception):
    """The case was refused, in one sentence."""


def answer(call: Callable[[], Any]) -> Any:
    """What a call gives; `Told` when it is refused."""
    try:
        with only_told():
            return call()
    except Told:
        return Told


ODD_NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.sampled_from([10**9, 10**18, 2**63, -(2**63), 2**31, 0]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.booleans(),
    st.none(),
    st.text(max_size=4),
    st.complex_numbers(max_magnitude=10),
)
