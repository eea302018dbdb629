"""One bundle: claim > decode > perform > decide > record.

Duplicates fall out at the claim. A job that fails, hangs or cannot be decoded costs its mates nothing: each outcome is
recorded by itself, as soon as it is known.
"""

import asyncio
import time
from collections.abc import Sequence
from threading import Thread
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Engine

from domain.ids import new_id
from domain.jobs.attempts import ClaimedJob
from domain.jobs.kind import JobKind, UnknownJobKind, find_kind
from domain.jobs.retry_policy import MAX_CRASHES, DeadlineExceeded, Ending, Errored, Succeeded
from domain.lanes.lane_rules import Observation
from domain.outages import is_over_time
from ops.telemetry import log
from workers.claims import Claims
from workers.context import WENT_WELL, BundleContext, BundleJob, JobContext, Resources
from workers.endings import HANDED_BACK, PATIENTLY, ending_of_handler, ending_of_job, is_of_all, seen_in, tell
from workers.holdings import Held
from workers.late_bundles import LateBundles
from workers.lone_jobs import LoneJobs
from workers.recorder import Recorder, unstorable
from workers.registry import HANDLERS, Handler, Mode
from workers.tally import count_ended

logger = log(__name__)

#: Jobs with their arguments.
Work = Sequence[tuple[ClaimedJob, Any]]

_UNKNOWN_TIMEOUT_S = 60.0
_WRITTEN_WITHIN_S = 6.0


class Executor:
    """Runs bundles for one worker process. `run_bundle` is called by many threads."""

    def __init__(self, resources: Resources, recorder: Recorder, worker_id: UUID, claims: Engine) -> None:
        self._resources, self._recorder, self._claims = resources, recorder, Claims(claims, worker_id)
        self._loop = asyncio.new_event_loop()
        self.holdings, self.late, self._lone = resources.holdings, LateBundles(), LoneJobs()
        self.stopping = False
        self._loop_thread = Thread(target=self._loop.run_forever, name="event-loop", daemon=True)
        self._loop_thread.start()

    def run_bundle(self, kind: str, ids: Sequence[str]) -> None:  # noqa: ARG002  # the rows know their kind
        """The jobs of this bell that were really due are run and their outcomes recorded. Never raises for a job."""
        found, lease_id = [UUID(hex=word) for word in ids], new_id()
        jobs = self._claim(found, lease_id)
        if jobs == [] and len(found) == 1:
            jobs = self._claim(found, lease_id, most_crashes=0)  # handed back, it is no worse than others
        if jobs:
            self._run_jobs(jobs, lease_id)
        elif jobs == [] and len(found) == 1:
            self._lone.leave(found)  # one that was in a crash, or no longer ours to claim
        while turn := self._lone.take_turn(lease_id := new_id()):
            self._run_lone(*turn, lease_id)

    def _run_lone(self, ids: Sequence[UUID], most_crashes: int, lease_id: UUID) -> None:
        """A job that was in a crash is not even claimed beside another such: the innocent would go down with it."""
        try:
            jobs = self._claim(ids, lease_id, most_crashes=most_crashes) or []
            if any(job.crashes >= MAX_CRASHES - 1 for job in jobs):
                self._lone.keep_turn(lease_id)
            self._run_jobs(jobs, lease_id)
            # What the next such job takes down with it must not be the outcome of this one.
            self.holdings.wait_until_written(jobs, _WRITTEN_WITHIN_S)
        finally:
            self._lone.end_turn(lease_id)

    def _run_jobs(self, jobs: list[ClaimedJob], lease_id: UUID) -> None:
        for name in {job.kind for job in jobs}:  # a forged bell may mix kinds
            mates = [job for job in jobs if job.kind == name]
            try:
                self._run_kind(name, mates, lease_id)
            except Exception as error:
                # A bug of ours, or an outage where none was expected. What was claimed must not be held for nothing.
                logger.exception("bundle.broke", kind=name, jobs=len(mates))
                for job in mates:
                    self._record(job, ending_of_job(error, job))
        self.late.forget(lease_id)

    def hand_back(self, jobs: Sequence[ClaimedJob]) -> None:
        """These jobs, claimed but not done, wait for another worker at once, without having used an attempt."""
        for job in jobs:
            self._record(job, HANDED_BACK)

    def expire(self, held: Held) -> None:
        """The job's time is up: this attempt has failed, or its bundle did, whatever the handler still does."""
        is_first = self.late.note(held.lease_id)
        self._lone.end_turn(held.lease_id)  # it may never return
        timed_out = Errored("TimedOut", f"no result after {held.timeout_s:g} s")
        ending, seen = (HANDED_BACK, None) if held.together else (timed_out, Observation(False))
        if not self._record(held.job, ending, seen) and is_first:
            self.late.forget(held.lease_id)  # it ended this very moment

    def close(self) -> None:
        """The event loop stops; async handlers still running are cancelled."""
        try:
            asyncio.run_coroutine_threadsafe(self._wind_up(), self._loop).result(5)
        except TimeoutError:  # a handler that is no coroutine at heart blocks it, and its thread dies with the process
            logger.warning("event_loop.stuck")
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop_thread.join(5)
        self._loop.close()

    async def _wind_up(self) -> None:
        unfinished = asyncio.all_tasks() - {asyncio.current_task()}
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished, timeout=2)
        await self._resources.http.close()

    def _claim(self, ids: Sequence[UUID], lease_id: UUID, most_crashes: int | None = None) -> list[ClaimedJob] | None:
        """None = nobody could be asked."""
        jobs = None if self.stopping else self._claims.claim(ids, lease_id, most_crashes)
        if jobs:
            self._resources.announce(job.id for job in jobs)
        return jobs

    def _run_kind(self, name: str, jobs: list[ClaimedJob], lease_id: UUID) -> None:
        try:
            kind: JobKind | None = find_kind(name)
        except UnknownJobKind:
            kind = None
        self.holdings.hold(jobs, kind.timeout_s if kind else _UNKNOWN_TIMEOUT_S, lease_id)
        handler = HANDLERS.get(name)
        if kind is None or handler is None:
            for job in jobs:
                self._record(job, Errored("UnknownJobKind", f"this worker knows no kind {name}"))
        else:
            self._perform(kind, handler, self._decode(kind, self._in_time(jobs)))
            logger.info("bundle.done", kind=name, jobs=len(jobs), request_ids=_request_ids(jobs))

    def _in_time(self, jobs: Sequence[ClaimedJob]) -> list[ClaimedJob]:
        late = [job for job in jobs if job.deadline_at is not None and job.deadline_at <= job.started_at]
        for job in late:
            self._record(job, DeadlineExceeded())
        return [job for job in jobs if job not in late] if late else list(jobs)

    def _decode(self, kind: JobKind, jobs: Sequence[ClaimedJob]) -> Work:
        decoded = []
        for job in jobs:
            try:
                decoded.append((job, kind.decode(job.args)))
            except msgspec.ValidationError as error:
                self._record(job, Errored("UndecodablePayload", str(error)))
            except BaseException as error:  # noqa: BLE001  # a payload's own check may raise what it likes
                self._record(job, ending_of_job(error, job))
        return decoded

    def _perform(self, kind: JobKind, handler: Handler, work: Work) -> None:
        match handler.mode:
            case Mode.PLAIN:
                for job, args in work:
                    self._run_plain(handler, job, args, kind.timeout_s)
            case Mode.ASYNC:
                asyncio.run_coroutine_threadsafe(self._run_all(handler, work, kind.timeout_s), self._loop).result()
            case Mode.BULK:
                self._run_bulk(handler, work, kind.timeout_s)

    def _run_plain(self, handler: Handler, job: ClaimedJob, args: Any, timeout_s: float) -> None:
        if self.stopping:
            return self.hand_back([job])
        if not self.holdings.start(job):
            return None
        ctx = JobContext(job, self._resources, timeout_s)
        try:
            returned = handler.run(args, ctx)
            ending: Ending | None = Succeeded(ctx.result if returned is None else returned)
        except BaseException as error:  # noqa: BLE001  # whatever a handler raises, `sys.exit` included, is its outcome
            ending = ending_of_handler(error, ctx)
        finally:
            ctx.close()
        return self._conclude(job, ctx, ending)

    async def _run_all(self, handler: Handler, work: Work, timeout_s: float) -> None:
        await asyncio.gather(*(self._run_async(handler, job, args, timeout_s) for job, args in work))

    async def _run_async(self, handler: Handler, job: ClaimedJob, args: Any, timeout_s: float) -> None:
        if not self.holdings.start(job):
            return
        ctx = JobContext(job, self._resources, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                returned = await handler.run(args, ctx)
            ending: Ending | None = Succeeded(ctx.result if returned is None else returned)
        except BaseException as error:  # noqa: BLE001  # whatever a handler raises, `sys.exit` included, is its outcome
            ending = ending_of_handler(error, ctx)
        finally:
            ctx.close()
        self._conclude(job, ctx, ending)

    def _run_bulk(self, handler: Handler, work: Work, timeout_s: float) -> None:
        if self.stopping:
            return self.hand_back([job for job, _ in work])
        work = [(job, args) for job, args in work if self.holdings.start(job, together=len(work) > 1)]
        if not work:
            return None
        try:
            self._run_bundle_transaction(handler, work, time.monotonic() + timeout_s)
        except BaseException as error:  # noqa: BLE001  # as above
            self._run_apart(handler, work, timeout_s, error)
        return None

    def _run_apart(self, handler: Handler, work: Work, timeout_s: float, error: BaseException) -> None:
        """After this error of their bundle. Who is to blame, by itself fails by itself."""
        jobs = [job for job, _ in work]
        if len(work) == 1 or is_of_all(error):
            for job in jobs:
                self._record(job, ending_of_job(error, job), seen_in(error))
        else:
            logger.warning("bundle.split", kind=jobs[0].kind, jobs=len(jobs), error=type(error).__name__)
            if is_over_time(error):  # here, one after the other, they would take as long again
                self.hand_back(jobs)
            else:
                for mate in work:
                    self._run_bulk(handler, [mate], timeout_s)

    def _run_bundle_transaction(self, handler: Handler, work: Work, ends_at: float) -> None:
        bundle = PATIENTLY(self._try_bundle, handler, work, ends_at)
        if not bundle.committed:
            raise RuntimeError("a bulk handler ends its jobs in bundle.transaction(), and lets its errors pass")
        self.holdings.forget(outcome.job for outcome in bundle.outcomes)
        self.holdings.lose(job for job, _ in work)  # those that were held no more
        count_ended([(outcome.job, outcome.finish.outcome) for outcome in bundle.outcomes])

    def _try_bundle(self, handler: Handler, work: Work, ends_at: float) -> BundleContext[Any]:
        jobs = [BundleJob(job, args) for job, args in work]
        bundle: BundleContext[Any] = BundleContext(jobs, self._resources, ends_at)
        handler.run(bundle)
        return bundle

    def _conclude(self, job: ClaimedJob, ctx: JobContext, ending: Ending | None) -> None:
        """Record what the handler ended with, unless it committed its own success, lost its lease, or was overtaken."""
        if ctx.finished:
            self.holdings.forget([job])
            count_ended([(job, "succeeded")])
        elif ending is None:
            self.holdings.lose([job])
        elif self.holdings.decide(job):
            ctx.seen = ctx.seen or (WENT_WELL if isinstance(ending, Succeeded) else Observation(None))
            self._put(ctx, ending)

    def _record(self, job: ClaimedJob, ending: Ending, seen: Observation | None = None) -> bool:
        """An ending that no handler gave. False when somebody else has decided about the job."""
        if not self.holdings.decide(job):
            return False
        ctx = JobContext(job, self._resources, 0.0)
        ctx.seen = seen
        self._put(ctx, ending)
        return True

    def _put(self, ctx: JobContext, ending: Ending) -> None:
        try:
            outcome = ctx.outcome(ending)
        except Exception as error:  # noqa: BLE001  # a result that is no JSON, a snooze until the end of time
            ending, ctx.detail = unstorable(error), None
            outcome = ctx.outcome(ending)
        tell(ctx, ending)
        self._recorder.put(outcome)


def _request_ids(jobs: Sequence[ClaimedJob]) -> list[str]:
    return [trace["requestId"] for job in jobs[:10] if (trace := job.trace_context) and "requestId" in trace]
