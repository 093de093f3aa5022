"""`effect="ledger"`: the user's statements and the applied mark in one transaction (S1, a)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from airflow_kafka_exactly.adapters.postgres.pool import Database
from airflow_kafka_exactly.adapters.postgres.session import Connection
from airflow_kafka_exactly.errors import AlreadyApplied, Fenced, KafkaExactlyError, NotApplied, Unavailable

# What may hide a keyword or a semicolon: comments, strings, quoted names, dollar-quoted bodies.
_QUOTED = re.compile(
    r"--[^\n]*|/\*.*?\*/|e'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$",
    re.DOTALL | re.IGNORECASE,
)
_CONTROL = frozenset({"begin", "start", "commit", "end", "abort", "discard", "reset", "listen", "unlisten"})


class EffectCursor:
    """What the user's function gets: a cursor of the ledger's transaction that can neither commit nor roll back.

    `execute`, `executemany` and `copy` take what psycopg's cursors take.
    """

    def __init__(self, cursor: psycopg.Cursor[Any], database: Database) -> None:
        self._cursor, self._db = cursor, database

    def execute(self, query: Any, params: Any = None) -> EffectCursor:
        self._refuse_control(query)
        with self._translated():
            self._cursor.execute(query, params)
        return self

    def executemany(self, query: Any, params_seq: Any) -> None:
        self._refuse_control(query)
        with self._translated():
            self._cursor.executemany(query, params_seq)

    @contextmanager
    def copy(self, statement: Any, params: Any = None) -> Iterator[psycopg.Copy]:
        self._refuse_control(statement)
        with self._translated(), self._cursor.copy(statement, params) as copy:
            yield copy

    def fetchone(self) -> Any:
        return self._cursor.fetchone()

    def fetchmany(self, size: int = 0) -> Sequence[Any]:
        return self._cursor.fetchmany(size)

    def fetchall(self) -> Sequence[Any]:
        return self._cursor.fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def _refuse_control(self, query: Any) -> None:
        if isinstance(query, sql.Composable):
            query = query.as_string(self._cursor)
        text = query.decode("utf-8", "replace") if isinstance(query, bytes) else str(query)
        for statement in _QUOTED.sub(" ", text).split(";"):
            words = [*statement.lower().split()[:2], "", ""]
            session = words[0] == "set" and words[1] not in {"local", "constraints"}
            rollback = words[0] == "rollback" and words[1] != "to"
            if words[0] in _CONTROL or session or rollback or words[:2] == ["prepare", "transaction"]:
                raise ValueError(
                    f"{' '.join(words[:2]).strip()!r} is refused: with effect='ledger' the transaction belongs to the ledger, "
                    "and the record's effect is everything or nothing"
                )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The user's own SQL errors pass; a lost connection is nobody's mistake and proves that nothing happened."""
        try:
            yield
        except psycopg.OperationalError as exc:
            if self._cursor.connection.closed:
                raise Unavailable("PostgreSQL", self._db.settings.connection, exc) from exc
            raise


@contextmanager
def effect_transaction(
    database: Database, statements: Mapping[str, str], parameters: Mapping[str, Any]
) -> Iterator[EffectCursor]:
    """The applied mark first, then the user's statements, then the commit. An exception rolls everything back. `Fenced` when
    the claim is not open, `AlreadyApplied` when an earlier try had committed, `Unavailable` when the answer is not known."""
    with database.connection(for_effect=True) as connection:
        try:
            try:
                settles, place, number = _begin(connection, statements, parameters)
            except psycopg.Error as exc:  # the ledger's own statement, so its own errors
                raise database.translate(exc) from exc
            with connection.cursor() as cursor:
                yield EffectCursor(cursor, database)
            _require_same(connection, number)
            connection.execute("commit")
        except BaseException as exc:
            with suppress(psycopg.Error):
                connection.rollback()
            if isinstance(exc, psycopg.Error) and (connection.closed or exc.sqlstate in {"KX002", "55P03"}):
                raise database.translate(exc) from exc
            if _overtaken(exc):
                raise Unavailable("PostgreSQL", database.settings.connection, exc) from exc
            raise
    if settles:
        # In a transaction of its own: the effect's holds the claim's lock, and partitions are locked before claims. A claim
        # that goes on is folded with the next mark or claim; a frontier that lags is safe.
        with suppress(KafkaExactlyError):
            database.rows(statements["fold"], {"partition": place})


def _overtaken(exc: BaseException | None) -> bool:
    """PostgreSQL ended a statement of the function for the sake of others, or of time: a deadlock, a serialization failure, a
    lock or a statement that took too long. That says nothing about the record; `NotApplied` says that the function knows."""
    while exc is not None and not isinstance(exc, NotApplied):
        state = (exc.sqlstate if isinstance(exc, psycopg.Error) else None) or ""
        if state[:2] == "40" or state in {"55P03", "57014"}:
            return True
        exc = exc.__cause__
    return False


def _begin(
    connection: Connection, statements: Mapping[str, str], parameters: Mapping[str, Any]
) -> tuple[bool, int, str]:
    """Whether the effect ends its claim, the partition, and the transaction's id."""
    with connection.pipeline():
        connection.execute("begin isolation level read committed read write")
        cursor = connection.execute(statements["begin_effect"].encode(), parameters)
        row = cursor.fetchone()
    assert row is not None
    outcome, place, number = row
    if outcome == "fenced":
        raise Fenced(f"claim {parameters['claim']} is over")
    if outcome == "applied":
        raise AlreadyApplied(f"claim {parameters['claim']} is applied up to {parameters['applied']} already")
    return outcome == "settles", int(place), str(number)


def _require_same(connection: Connection, number: str) -> None:
    """A function that ended the transaction behind our back had an effect that is not what the applied mark says."""
    if connection.info.transaction_status == TransactionStatus.INERROR:
        raise RuntimeError(
            "the function swallowed an error of its own statements: nothing of the effect is kept"
        )
    if connection.execute("select pg_catalog.pg_current_xact_id()::pg_catalog.text").fetchone() != (number,):
        raise RuntimeError(
            "the function ended the ledger's transaction: its effect is not what the applied mark says"
        )
