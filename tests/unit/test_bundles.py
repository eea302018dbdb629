"""How due rows become bundles: every row once, the suspects alone, nothing larger than its kind takes."""

from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.jobs.kind import KINDS
from domain.jobs.outbox import DueRow
from workers.bundle_rules import DEFAULT_BUNDLE, bundles_of

KNOWN = [*sorted(KINDS), "newer.kind"]
shapes = st.tuples(st.sampled_from(KNOWN), st.sampled_from(["inventory", "reports"]), st.booleans())
due_rows = st.lists(shapes, max_size=300).map(
    lambda shapes: [DueRow(UUID(int=n), kind, queue, None, alone, 1) for n, (kind, queue, alone) in enumerate(shapes)]
)


@given(due_rows)
def test_every_row_travels_in_exactly_one_bundle(rows: list[DueRow]) -> None:
    travelling = Counter(job_id for bundle in bundles_of(rows) for job_id in bundle.job_ids)
    assert travelling == Counter(row.job_id for row in rows)


@given(due_rows)
def test_a_bundle_holds_one_kind_for_one_queue(rows: list[DueRow]) -> None:
    shape_of = {row.job_id: (row.queue, row.kind) for row in rows}
    for bundle in bundles_of(rows):
        assert {shape_of[job_id] for job_id in bundle.job_ids} == {(bundle.queue, bundle.kind)}


@given(due_rows)
def test_rows_that_come_from_a_crash_travel_alone(rows: list[DueRow]) -> None:
    suspects = {row.job_id for row in rows if row.alone}
    for bundle in bundles_of(rows):
        assert len(bundle.job_ids) == 1 or not suspects & set(bundle.job_ids)


def rows_of(kind: str, count: int) -> list[DueRow]:
    return [DueRow(UUID(int=number), kind, "any", None, False, 1) for number in range(count)]


def sizes(rows: list[DueRow]) -> list[int]:
    return [len(bundle.job_ids) for bundle in bundles_of(rows)]


@given(st.sampled_from(KNOWN), st.integers(0, 450))
def test_no_bundle_is_larger_than_its_kind_takes_and_none_is_needlessly_small(kind: str, count: int) -> None:
    most = KINDS[kind].bundle if kind in KINDS else DEFAULT_BUNDLE
    full, rest = divmod(count, most)
    assert sizes(rows_of(kind, count)) == [most] * full + [rest] * (rest > 0)


def test_a_kind_that_takes_one_gets_one_and_the_others_are_bundled() -> None:
    assert sizes(rows_of("report.generate", 3)) == [1, 1, 1]
    assert sizes(rows_of("inventory.reserve", 101)) == [100, 1]


def test_the_order_in_which_rows_became_due_is_kept_within_a_kind() -> None:
    (bundle,) = bundles_of(rows_of("inventory.reserve", 50))
    assert bundle.job_ids == [UUID(int=number) for number in range(50)]
