"""What a classifier says about one picture."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Prediction:
    """What a classifier says about one picture.

    Args:
        name: the most probable class; None when there is an error, or when its score is below `reject_below`.
        probability: that of the most probable class.
        top: the most probable classes with their probabilities, best first.
        file: the picture's file; None for one from memory.
        error: why there is no class: the picture could not be read, or the model's output for it is not finite.
        score: the largest logit, before any `prior`: low for pictures of no known class.

    Examples:
        >>> Prediction("cat", 0.9, [("cat", 0.9), ("dog", 0.1)], file="tom.jpg").name
        'cat'
    """

    name: str | None
    probability: float | None
    top: list[tuple[str, float]] = field(default_factory=list)
    file: str | None = None
    error: str | None = None
    score: float | None = None
