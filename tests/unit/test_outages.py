"""What is an outage of the database, and what is the fault of what it was asked."""

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from domain.outages import is_outage

OUTAGES = [
    OperationalError("", {}, psycopg.OperationalError("connection refused")),
    OperationalError("", {}, errors.AdminShutdown()),
    OperationalError("", {}, errors.CannotConnectNow()),
    OperationalError("", {}, errors.ConnectionFailure()),
    OperationalError("", {}, errors.DiskFull()),
    OperationalError("", {}, errors.TooManyConnections()),
    InternalError("", {}, errors.ReadOnlySqlTransaction()),
    InternalError("", {}, errors.IdleInTransactionSessionTimeout()),
    InternalError("", {}, errors.InFailedSqlTransaction(), connection_invalidated=True),
    InterfaceError("", {}, psycopg.InterfaceError("the connection is closed")),
    PoolTimeout(),
]
FAULTS = [
    OperationalError("", {}, errors.QueryCanceled()),
    OperationalError("", {}, errors.DeadlockDetected()),
    InternalError("", {}, errors.InFailedSqlTransaction()),
    IntegrityError("", {}, errors.UniqueViolation()),
    DataError("", {}, errors.NumericValueOutOfRange()),
    ProgrammingError("", {}, psycopg.ProgrammingError("no such placeholder")),
    TimeoutError(),
    ValueError(),
]


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: type(getattr(error, "orig", error)).__name__)
def test_a_database_that_is_away_is_an_outage(error: Exception) -> None:
    assert is_outage(error)


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(getattr(error, "orig", error)).__name__)
def test_what_would_fail_again_is_none(error: Exception) -> None:
    assert not is_outage(error)
