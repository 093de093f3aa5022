"""Connections to the ledger: one psycopg pool per process, and where psycopg's errors end.

Connections are in autocommit: most of what the ledger does is one call of one function, which is a transaction of its own
and one round trip.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from airflow_kafka_exactly.adapters.postgres.session import Connection, prepare_connection, reset_connection
from airflow_kafka_exactly.errors import (
    ConfigurationError,
    Fenced,
    GroupInUse,
    KafkaExactlyError,
    LedgerBehind,
    SchemaMissing,
    SchemaTooNew,
    SlotBusy,
    StaleEpoch,
    Unavailable,
)
from airflow_kafka_exactly.settings import LedgerSettings

T = TypeVar("T")

MAX_ATTEMPTS = 5
"""How often a transaction is tried that PostgreSQL ended because of another one (a deadlock, a serialization failure)."""

_REFUSALS: Mapping[str, Callable[[str], KafkaExactlyError]] = {
    "KX001": StaleEpoch,
    "KX002": Fenced,
    "KX005": LedgerBehind,
    "KX006": GroupInUse,
    "KX007": ConfigurationError,
}
_MIGRATE = (SchemaMissing, "Run `airflow kafka-exactly migrate`.")
_REMEDIES: Mapping[str, tuple[type[ConfigurationError], str]] = {
    "42P01": _MIGRATE,
    "3F000": _MIGRATE,
    "42883": (SchemaTooNew, "Another version has migrated the ledger: install one version everywhere."),
    "42501": (ConfigurationError, "Give that right to its login."),
}

_MISCONFIGURED = re.compile(
    r"password authentication failed|no password supplied|does not exist|could not translate host name|"
    r"no pg_hba.conf entry|failed to resolve host|name or service not known|invalid (port|integer|connection)|"
    r"Name or service not known|permission denied for database",
    re.IGNORECASE,
)


_PASSING = re.compile("temporary failure in name resolution", re.IGNORECASE)
"""The resolver did not answer, so nobody knows whether the name is wrong."""

_worked: set[str] = set()
"""What this process has connected with: from then on the same refusal is an outage (a failover of the server, its name, its
catalogue of users), which passes, and ends nobody who works."""

_served: set[tuple[str, str]] = set()
"""Which ledgers were found in order in this process: from then on a table, function or right that is missing is an outage too (a
change that is under way, a failover to a standby that lags behind)."""


def has_served(settings: LedgerSettings) -> bool:
    return (settings.conninfo, settings.schema) in _served


def note_served(settings: LedgerSettings) -> None:
    _served.add((settings.conninfo, settings.schema))


def connect_arguments(settings: LedgerSettings) -> dict[str, Any]:
    """What every connection to the ledger is opened with, beside `settings.conninfo`."""
    return {
        "autocommit": True,
        "connect_timeout": max(2, round(settings.connect_timeout_s)),  # libpq: at least 2 s
        "application_name": f"kafka-exactly {os.getpid()}",
        "keepalives_idle": 10,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": round(settings.statement_timeout_s * 1000),
    }


def connect(settings: LedgerSettings) -> Connection:
    """One connection outside of the pools. `ConfigurationError` when it cannot work and never has, else `Unavailable`."""
    try:
        connection = psycopg.connect(settings.conninfo, **connect_arguments(settings))
        _prepared(connection, settings)
    except (psycopg.OperationalError, psycopg.ProgrammingError) as exc:
        raise connect_error(settings, exc) from exc
    _worked.add(settings.conninfo)
    return connection


def _prepared(connection: Connection, settings: LedgerSettings) -> None:
    try:
        prepare_connection(connection, settings)
    except BaseException:
        connection.close()
        raise


def connect_error(settings: LedgerSettings, exc: Exception) -> KafkaExactlyError:
    text = str(exc).strip()
    wrong = isinstance(exc, psycopg.ProgrammingError) or _MISCONFIGURED.search(text)
    if wrong and settings.conninfo not in _worked and not _PASSING.search(text):
        return ConfigurationError(
            f"PostgreSQL (connection {settings.connection!r}): {text}. Correct that connection's host, port, schema "
            "(database), login or password."
        )
    return Unavailable("PostgreSQL", settings.connection, text)


class Database:
    """The pools of one process. Safe to use from several threads, never across a fork.

    Effects have a pool of their own: what a user's function leaves in its session is never met by the ledger's own statements,
    and is reset, behind the function's back, before the next effect.
    """

    def __init__(self, settings: LedgerSettings) -> None:
        self.settings = settings
        self._pid = os.getpid()
        connect(settings).close()  # the pool would only say that it timed out, not why
        self._pool = self._open_pool("ledger", connect_arguments(settings))
        self._effects = self._open_pool(
            "effects",
            # A user's statements are not prepared behind their back: the reset would not be told of it.
            {**connect_arguments(settings), "prepare_threshold": None},
            reset=lambda connection: reset_connection(connection, settings),
        )

    def _open_pool(self, name: str, arguments: dict[str, Any], **more: Any) -> ConnectionPool[Connection]:
        settings, for_effects = self.settings, name == "effects"
        return ConnectionPool(
            settings.conninfo,
            kwargs=arguments,
            configure=lambda c: prepare_connection(c, settings, for_effects=for_effects),
            min_size=0,
            max_size=settings.pool_max,
            timeout=settings.connect_timeout_s,
            reconnect_timeout=2.0,  # then the next one who asks tries again, instead of an ever longer pause
            name=f"kafka-exactly {name}",
            open=True,
            **more,
        )

    def close(self) -> None:
        self._pool.close()
        self._effects.close()

    @contextmanager
    def connection(self, *, for_effect: bool = False) -> Iterator[Connection]:
        """A connection for one use. Connection problems become `Unavailable` or `ConfigurationError`."""
        if os.getpid() != self._pid:
            raise RuntimeError("the ledger was opened in another process: open it after the fork")
        pool = self._effects if for_effect else self._pool
        try:
            connection = pool.getconn()
        except (PoolTimeout, PoolClosed) as exc:
            self._explain(exc)
        try:
            yield connection
        finally:
            broken = connection.closed
            pool.putconn(connection)
            if broken:
                pool.check()  # after a restart of the ledger none of them lives: do not find out one by one

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do `work` with a connection; our own errors come out. Tried again where PostgreSQL ended it for another's sake."""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                with self.connection() as connection:
                    return work(connection)
            except (pg.SerializationFailure, pg.DeadlockDetected) as exc:
                if attempt == MAX_ATTEMPTS:
                    raise Unavailable("PostgreSQL", self.settings.connection, exc) from exc
                time.sleep(random.uniform(0.005, 0.02) * 2**attempt)  # noqa: S311 (no secret)
            except psycopg.Error as exc:
                raise self.translate(exc) from exc
        raise AssertionError("unreachable")

    def rows(self, statement: str, parameters: Any = ()) -> list[TupleRow]:
        """One statement, one round trip, all rows."""
        return self.run(lambda c: c.execute(statement.encode(), parameters, binary=True).fetchall())

    def row(self, statement: str, parameters: Any = ()) -> TupleRow:
        return self.rows(statement, parameters)[0]

    def execute(self, statement: str, parameters: Any = ()) -> int:
        """One statement; returns how many rows it changed."""
        return self.run(lambda c: c.execute(statement.encode(), parameters).rowcount)

    def translate(self, exc: psycopg.Error) -> Exception:
        """Our error for psycopg's; SQLSTATEs of class KX are raised by our own functions."""
        said, where = str(exc.diag.message_primary), f"PostgreSQL (connection {self.settings.connection!r})"
        refusal = _REFUSALS.get(exc.sqlstate or "")
        if refusal is not None:
            return refusal(said)
        if exc.sqlstate == "KX003":
            held = json.loads(exc.diag.message_detail or "{}")
            slot = said.removeprefix("slot ").split(" is held by ")[0]
            return SlotBusy(slot, held["holder"], held["left_s"])
        if remedy := _REMEDIES.get(exc.sqlstate or ""):
            if has_served(self.settings):
                return Unavailable("PostgreSQL", self.settings.connection, f"{said}. {remedy[1]}")
            return remedy[0](f"{where}: {said}. {remedy[1]}")
        # Read-only: a connection that ended up at a standby, as it may in a failover.
        if isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError, pg.ReadOnlySqlTransaction)):
            return Unavailable("PostgreSQL", self.settings.connection, exc)
        return exc  # a mistake of ours: seen as it is

    def _explain(self, exc: Exception) -> Any:
        if isinstance(exc, PoolTimeout):
            connect(self.settings).close()
        raise Unavailable("PostgreSQL", self.settings.connection, exc) from exc
