"""Two sessions of a real PostgreSQL at the worst moment: what the tests of races have in common."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
from ledger_stage import PostgresStage

from airflow_kafka_exactly.protocol.claims import Claim, Life


@contextmanager
def held(stage: PostgresStage, call: str, *parameters: Any) -> Iterator[psycopg.Connection[Any]]:
    """A transaction that has called a function of the ledger and not committed yet."""
    with psycopg.connect(stage.settings.conninfo) as connection:
        connection.execute(f"select * from kafka_exactly.{call}".encode(), parameters)
        yield connection
        connection.commit()


def until_blocked(stage: PostgresStage, work: Future[Any]) -> None:
    """Until a session of this database waits for a lock (or the work is done, which the test then finds out)."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not work.done():
        waiting = stage.sql(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        if waiting[0][0]:
            return
        time.sleep(0.005)
    assert not work.done(), "it did not wait"


def mark_call(life: Life, claim: Claim, applied: int) -> tuple[Any, ...]:
    call = "mark(%s, %s, %s, %s::bigint[], %s::bigint[], %s::bigint[])"
    return (call, life.group_id, life.slot, life.incarnation, [claim.claim_id], [applied], [applied])


def together(threads: ThreadPoolExecutor, works: list[Callable[[], Any]]) -> list[Any]:
    start = threading.Barrier(len(works))

    def at_once(work: Callable[[], Any]) -> Any:
        start.wait(20)
        return work()

    return [f.result(30) for f in [threads.submit(at_once, work) for work in works]]
