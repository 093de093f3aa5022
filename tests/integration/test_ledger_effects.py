"""The cursor of `effect="ledger"` on a real PostgreSQL: it can do everything but end the transaction (H7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from ledger_stage import PostgresStage
from psycopg import sql

from airflow_kafka_exactly.errors import NotApplied, Unavailable
from airflow_kafka_exactly.protocol.claims import Claim, Life

# ruff: noqa: PT012 (an effect is a block of statements)
pytestmark = pytest.mark.integration


class Running:
    def __init__(self, stage: PostgresStage, life: Life, claim: Claim) -> None:
        self.stage, self.life, self.claim = stage, life, claim

    def effect(self):  # type: ignore[no-untyped-def]
        return self.stage.member.effect_transaction(self.life, self.claim.claim_id, self.frontier() + 1)

    def frontier(self) -> int:
        return self.stage.mark(self.life, self.claim, 0, 0)

    def payments(self) -> list[tuple[int]]:
        return self.stage.sql("select n from payments order by n")


@pytest.fixture
def running(database: str) -> Iterator[Running]:
    stage = PostgresStage(database)
    stage.sql("create table payments (n integer)")
    life = stage.life()
    yield Running(stage, life, stage.claim(life, 0, 10))
    stage.ledger.close()


def test_the_cursor_does_what_cursors_do(running: Running) -> None:
    with running.effect() as cursor:
        cursor.execute("insert into payments values (%s), (%s)", [1, 2])
        assert cursor.rowcount == 2
        cursor.executemany("insert into payments values (%s)", [[3], [4]])
        with cursor.copy("copy payments from stdin") as copy:
            copy.write_row([5])
        cursor.execute(sql.SQL("select n from {} order by n").format(sql.Identifier("payments")))
        assert cursor.description[0].name == "n"
        assert cursor.fetchone() == (1,)
        assert list(cursor.fetchmany(2)) == [(2,), (3,)]
        assert list(cursor) == [(4,), (5,)]
        cursor.execute("savepoint s; insert into payments values (99); rollback to savepoint s")
        assert cursor.execute("select 'commit; -- no'").fetchall() == [("commit; -- no",)]
        cursor.execute("set local work_mem = '5MB'")
    assert running.payments() == [(n,) for n in (1, 2, 3, 4, 5)]
    assert running.frontier() == 1


@pytest.mark.parametrize(
    "statement",
    [
        "commit",
        "  COMMIT",
        "/* harmless */ commit",
        "insert into payments values (1); commit; select 1",
        "insert into payments values (1)\n;end",
        "begin",
        "rollback",
        "abort",
        "prepare transaction 'x'",
        "start transaction",
        "set search_path = elsewhere",
        b"commit",
        sql.SQL("commit"),
        "select $a$ ; $a$; commit",
        "select ';'; -- x\ncommit",
    ],
)
def test_what_would_end_the_transaction_is_refused(running: Running, statement: str) -> None:
    with pytest.raises(ValueError, match="is refused"), running.effect() as cursor:
        cursor.execute("insert into payments values (7)")
        cursor.execute(statement)
    assert running.payments() == []
    assert running.frontier() == 0


def test_neither_connection_nor_commit_can_be_reached(running: Running) -> None:
    with running.effect() as cursor:
        assert not hasattr(cursor, "connection")
        assert not hasattr(cursor, "commit")


def test_a_function_that_ended_the_transaction_behind_our_back_is_found_out(running: Running) -> None:
    with pytest.raises(RuntimeError, match="ended the ledger's transaction"), running.effect() as cursor:
        cursor._cursor.connection.commit()  # what no statement of its own can do


def test_an_error_that_the_function_swallowed_keeps_nothing(running: Running) -> None:
    with pytest.raises(RuntimeError, match="swallowed"), running.effect() as cursor:
        cursor.execute("insert into payments values (1)")
        with pytest.raises(psycopg.errors.UndefinedTable):
            cursor.execute("insert into no_such_table values (1)")
    assert running.payments() == []
    assert running.frontier() == 0


def test_the_users_own_sql_errors_are_theirs(running: Running) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable), running.effect() as cursor:
        cursor.execute("select * from no_such_table")
    assert running.frontier() == 0
    with running.effect() as cursor:
        cursor.execute("insert into payments values (1)")
    assert running.payments() == [(1,)]


def test_a_connection_lost_in_an_effect_is_unavailable_and_nothing_happened(running: Running) -> None:
    with pytest.raises(Unavailable), running.effect() as cursor:
        cursor.execute("insert into payments values (1)")
        pid = cursor.execute("select pg_backend_pid()").fetchone()[0]
        running.stage.sql("select pg_terminate_backend(%s)", pid)
        cursor.execute("insert into payments values (2)")
    assert running.payments() == []
    with running.effect() as cursor:
        cursor.execute("insert into payments values (3)")
    assert running.payments() == [(3,)]


def test_users_tables_may_have_our_tables_names(running: Running) -> None:
    running.stage.sql("create table claim (n integer)")
    with running.effect() as cursor:
        cursor.execute("insert into claim values (1)")
    assert running.stage.sql("select * from claim") == [(1,)]


def test_an_effect_that_idles_longer_than_its_lease_is_ended_by_the_ledger(running: Running) -> None:
    with running.effect() as cursor:
        (limit,) = cursor.execute("select current_setting('idle_in_transaction_session_timeout')").fetchone()
        milliseconds = {"ms": 1, "s": 1000, "min": 60_000}[limit.lstrip("0123456789")]
        assert 0 < int(limit.rstrip("msin")) * milliseconds < 20_000
    (after,) = running.stage.ledger.report._db.row("show idle_in_transaction_session_timeout")
    assert after == "3s"


def wrapped(cursor: Any) -> None:
    try:
        cursor.execute("do $$ begin raise sqlstate '40001'; end $$")
    except psycopg.Error as exc:
        raise ValueError("of a library in between") from exc


def knows(cursor: Any) -> None:
    try:
        cursor.execute("do $$ begin raise sqlstate '55P03'; end $$")
    except psycopg.Error as exc:
        raise NotApplied("the account is locked: give it up") from exc


OVERTAKEN = {
    "a deadlock": lambda c: c.execute("do $$ begin raise sqlstate '40P01'; end $$"),
    "a serialization failure": lambda c: c.execute("do $$ begin raise sqlstate '40001'; end $$"),
    "a lock that others hold": lambda c: c.execute("set local lock_timeout = 50; lock table payments"),
    "a statement that takes too long": lambda c: c.execute(
        "set local statement_timeout = 50; select pg_sleep(60)"
    ),
    "one of these inside another error": wrapped,
}


@pytest.mark.parametrize("name", OVERTAKEN)
def test_what_others_or_the_time_ended_says_nothing_about_the_record(running: Running, name: str) -> None:
    """It is asked for again, as when the ledger is away; never an attempt, and never a dead letter."""
    with psycopg.connect(running.stage.settings.conninfo) as other:
        other.execute("lock table payments in share mode")
        with pytest.raises(Unavailable), running.effect() as cursor:
            OVERTAKEN[name](cursor)
    assert running.frontier() == 0
    with running.effect() as cursor:
        cursor.execute("insert into payments values (1)")
    assert (running.payments(), running.frontier()) == ([(1,)], 1)


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda c: c.execute("insert into payments values (1 / 0)"), psycopg.errors.DivisionByZero),
        (knows, NotApplied),
    ],
)
def test_a_functions_own_error_stays_its_own(running: Running, function: Any, error: type) -> None:
    with pytest.raises(error), running.effect() as cursor:
        function(cursor)
