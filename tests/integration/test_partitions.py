"""Weekly partitions: no job is refused for want of one, early rows move into theirs, a claim reads only its own."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine

from domain.ids import new_id
from domain.job_kinds import ReserveInventory
from domain.jobs import attempts, finish
from domain.jobs.outbox import NewJob, enqueue, new_job
from domain.jobs.partitions import create_partitions_ahead, lowest_id_at, monday_of, partition_name, within
from domain.jobs.retry_policy import Succeeded
from tests.integration.builders import a_tenant, at_once, claimed, ended, scalar, the_job

NEXT_YEAR = monday_of(datetime.now(UTC) + timedelta(days=400)) + timedelta(days=2)


def job_made_at(tenant_id: UUID, moment: datetime) -> NewJob:
    job = new_job(ReserveInventory(new_id()), tenant_id=tenant_id)
    fields = {name: getattr(job, name) for name in job.__struct_fields__}
    return NewJob(**{**fields, "id": UUID(int=lowest_id_at(moment).int | 0x7 << 76 | 0x8 << 60)})


def partition_of(engine: Engine, table: str, key: str, job_id: UUID) -> str:
    found: str = scalar(engine, f"SELECT tableoid::regclass::text FROM {table} WHERE {key} = :id", id=job_id)
    return found


@pytest.fixture
def early(engine: Engine) -> UUID:
    """A job that ran, from a week that has no partition yet."""
    job = job_made_at(a_tenant(engine), NEXT_YEAR)
    with engine.begin() as tx:
        enqueue(tx, [job])
    (running,) = claimed(engine, [job.id])
    assert ended(engine, running, Succeeded())
    return job.id


def test_a_job_of_today_lies_in_the_partition_of_its_week(engine: Engine) -> None:
    job = new_job(ReserveInventory(new_id()), tenant_id=a_tenant(engine))
    with engine.begin() as tx:
        enqueue(tx, [job])
    assert partition_of(engine, "jobs", "id", job.id) == partition_name("jobs", datetime.now(UTC))


def test_what_has_no_partition_lands_in_the_default_one(engine: Engine, early: UUID) -> None:
    assert partition_of(engine, "jobs", "id", early) == "jobs_default"
    assert partition_of(engine, "attempts", "job_id", early) == "attempts_default"


def test_rows_that_came_early_move_to_their_partition_as_they_are(engine: Engine, early: UUID) -> None:
    before = the_job(engine, early)
    with engine.begin() as tx:
        made = create_partitions_ahead(tx, NEXT_YEAR, weeks=0)
    assert made == [partition_name(table, NEXT_YEAR) for table in ("jobs", "attempts")]
    assert [partition_of(engine, "jobs", "id", early), partition_of(engine, "attempts", "job_id", early)] == made
    assert the_job(engine, early) == before


def test_only_rows_of_that_week_move(engine: Engine, early: UUID) -> None:
    with engine.begin() as tx:
        create_partitions_ahead(tx, NEXT_YEAR + timedelta(weeks=1), weeks=0)
    assert partition_of(engine, "jobs", "id", early) == "jobs_default"


def test_two_schedulers_at_once_make_each_partition_once(engine: Engine, early: UUID) -> None:
    def create() -> list[str]:
        with engine.begin() as tx:
            return create_partitions_ahead(tx, NEXT_YEAR, weeks=3)

    first, second = at_once(create, create)
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert sorted([len(first), len(second)]) == [0, 8]


def partitions_read(database_url: str, statement: str) -> set[str]:
    """The partitions of `jobs` that this statement reads for two jobs of this week, planned before they are known."""
    ids = [new_id(), new_id()]
    statement = within(statement, ids).text
    lease = {"lease_s": 8, "most_crashes": 3, "worker_id": ids[0], "lease_id": ids[0]}
    values = {"ids": ids, "claims": [1, 1], "claim": 1, **lease}
    names = list(dict.fromkeys(re.findall(r"(?<!:):(\w+)", statement)))
    numbered = re.sub(r"(?<!:):(\w+)", lambda found: f"${names.index(found[1]) + 1}", statement)
    with psycopg.connect(database_url) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute(f"PREPARE prepared AS {numbered}".encode())
        given = sql.SQL(", ").join(sql.Literal(values[name]) for name in names)
        lines = connection.execute(sql.SQL("EXPLAIN ANALYZE EXECUTE prepared ({})").format(given)).fetchall()
    scans = re.findall(
        r"(?:Scan|Update) .*?on (jobs_\w+).*\((.*)\)$", "\n".join(line for (line,) in lines), re.MULTILINE
    )
    return {table for table, run in scans if "never executed" not in run}


@pytest.mark.parametrize(
    "statement",
    [attempts._START, attempts._START.replace("NOT alone", attempts._ALONE), attempts._HOLD, finish._SUCCEED],
    ids=["start", "start alone", "hold", "end"],
)
def test_claim_and_finish_read_only_the_partition_of_their_jobs(database_url: str, statement: str) -> None:
    assert partitions_read(database_url, statement) == {partition_name("jobs", datetime.now(UTC))}


def test_without_bounds_they_would_read_them_all(database_url: str) -> None:
    """The test above can fail."""
    unbounded = attempts._HOLD.replace("{weeks}", "IS NOT NULL")
    assert len(partitions_read(database_url, unbounded)) > 1
