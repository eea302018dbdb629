"""How ids become bundles: every id once, the suspects alone, nothing larger than it may be."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.jobs.kind import KINDS
from workers.bundle_rules import DEFAULT_BUNDLE, bundles_of, most_in_bundle

words = st.integers(0, 300).flatmap(
    lambda count: st.integers(0, count).map(
        lambda alone: ([f"job {n}" for n in range(alone, count)], [f"job {n}" for n in range(alone)])
    )
)
sizes = st.integers(1, 120)


@given(words, sizes)
def test_every_id_travels_in_exactly_one_bundle(ids: tuple[list[str], list[str]], size: int) -> None:
    together, alone = ids
    travelling = Counter(job_id for bundle in bundles_of(together, alone, size) for job_id in bundle)
    assert travelling == Counter([*together, *alone])


@given(words, sizes)
def test_who_comes_from_a_crash_travels_alone(ids: tuple[list[str], list[str]], size: int) -> None:
    together, suspects = ids
    for bundle in bundles_of(together, suspects, size):
        assert len(bundle) == 1 or not set(suspects) & set(bundle)


@given(words, sizes)
def test_no_bundle_is_larger_than_it_may_be_and_none_is_needlessly_small(
    ids: tuple[list[str], list[str]], size: int
) -> None:
    together, alone = ids
    full, rest = divmod(len(together), size)
    assert [len(bundle) for bundle in bundles_of(together, alone, size)] == (
        [size] * full + [rest] * (rest > 0) + [1] * len(alone)
    )


@given(words, sizes)
def test_the_order_of_those_who_travel_together_is_kept(ids: tuple[list[str], list[str]], size: int) -> None:
    together, _ = ids
    assert [job_id for bundle in bundles_of(together, [], size) for job_id in bundle] == together


@pytest.mark.parametrize(
    ("kind", "most"), [("report.generate", 1), ("inventory.reserve", 100), ("newer.kind", DEFAULT_BUNDLE)]
)
def test_a_kind_says_how_many_may_travel_together_and_one_that_is_not_known_gets_the_default(
    kind: str, most: int
) -> None:
    assert most_in_bundle(kind) == most
    assert all(most_in_bundle(name) == known.bundle for name, known in KINDS.items())
