"""The short retry inside an attempt: transient errors only, three calls, growing gaps, never for long."""

import pytest

from workers.clients.patience import TransientError, patiently


class Dependency:
    """Answers what it was told, call by call."""

    def __init__(self, *answers: Exception | str) -> None:
        self._answers = list(answers)
        self.calls = 0

    def call(self) -> str:
        self.calls += 1
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class BadRequest(Exception):
    """The dependency has answered 400."""


@pytest.mark.parametrize("passing", [TimeoutError, ConnectionResetError, ConnectionRefusedError, TransientError])
def test_a_dependency_that_fails_twice_for_a_moment_is_called_three_times(passing: type[Exception]) -> None:
    dependency, waits = Dependency(passing(), passing(), "done"), list[float]()
    assert patiently.copy(sleep=waits.append)(dependency.call) == "done"
    assert dependency.calls == 3
    first, second = waits
    assert 0 < first < second < 1


def test_what_still_fails_after_three_calls_is_raised_as_it_is() -> None:
    dependency = Dependency(TimeoutError("first"), TimeoutError("second"), TimeoutError("third"), "too late")
    with pytest.raises(TimeoutError, match="third"):
        patiently.copy(sleep=lambda _: None)(dependency.call)
    assert dependency.calls == 3


@pytest.mark.parametrize("lasting", [BadRequest, ValueError, PermissionError])
def test_what_no_moment_heals_is_called_once(lasting: type[Exception]) -> None:
    dependency = Dependency(lasting(), "never")
    with pytest.raises(lasting):
        patiently(dependency.call)
    assert dependency.calls == 1


def test_a_call_that_took_long_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a clock by which each call takes ten seconds
    now = iter(range(0, 1_000, 10))
    monkeypatch.setattr("time.monotonic", lambda: float(next(now)))
    dependency = Dependency(TimeoutError(), "never")
    with pytest.raises(TimeoutError):
        patiently.copy(sleep=lambda _: None)(dependency.call)
    assert dependency.calls == 1
