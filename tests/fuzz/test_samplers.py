from __future__ import annotations

from hypothesis import strategies as st

from tests.contracts.discover import make, public_classes
from tests.fuzz.cases import ODD_NUMBERS, Told, answer, fuzz

SAMPLERS = [cls for cls in public_classes("samplers") if cls.__name__ != "EvaluationSampler"]
LABELS = st.lists(st.integers(0, 8), min_size=1, max_size=40)


@fuzz(
    st.sampled_from(SAMPLERS), LABELS, st.integers(1, 4), st.one_of(st.none(), st.integers(-1, 90)), st.integers(0, 9)
)
def test_what_is_drawn(cls, labels, replicas, num_samples, epoch):
    def call():
        drawn = []
        for rank in range(replicas):
            options = {"dataset": labels} if cls.__name__ == "EvaluationSampler" else {"labels": labels}
            sampler = make(cls, **options, num_replicas=replicas, rank=rank, num_samples=num_samples)
            sampler.set_epoch(epoch)
            drawn.append(list(sampler))
            assert len(drawn[-1]) == len(sampler)
            assert drawn[-1] == list(sampler), "a function of seed and epoch"
        return drawn

    found = answer(call)
    if found is Told:
        assert num_samples is not None
        assert num_samples < 1
        return
    together = [index for part in found for index in part]
    assert set(together) <= set(range(len(labels)))
    assert len(set(map(len, found))) == 1, "each process has as many"
    assert len(together) >= (num_samples or 1)


@fuzz(st.sampled_from(SAMPLERS), st.lists(ODD_NUMBERS, max_size=8), ODD_NUMBERS, ODD_NUMBERS)
def test_odd_arguments(cls, labels, first, second):
    names = [
        name for name in ("q", "beta", "threshold", "samples_per_class") if name in cls.__init__.__code__.co_varnames
    ]
    options = dict(zip(names, (first, second)))
    options = {name: value for name, value in options.items() if isinstance(value, (int, float))}
    found = answer(lambda: list(make(cls, labels=labels, **options, num_samples=20)))
    assert found is Told or all(0 <= index < len(labels) for index in found)
