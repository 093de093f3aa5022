"""The demo's DAG: two members of one consumer group pay what a topic asks them to, each payment exactly once.

The effect is a plain `INSERT` without a unique key into a database of its own: nothing there would stop a second one, so the
demo can count repeated effects. The table comes from whoever creates that database (`make demo` does).
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from airflow.sdk import DAG, BaseHook

from airflow_kafka_exactly.operators import KafkaExactlyOnceOperator

TOPIC = "payments"
EFFECTS = "effects"
"""The Airflow connection of the database that the payments go to."""

_connections: dict[int, psycopg.Connection[Any]] = {}


def pay(record: Any, member: int, *, pause_s: float) -> None:
    """Pay what `record` asks for. The pauses (half before, half after the effect) make a batch last, so that a fault finds
    one under way and does not know on which side of the effect it strikes."""
    payment = json.loads(record.value)
    time.sleep(pause_s / 2)
    _database().execute(
        "insert into payment (record_id, partition_number, record_offset, reference, cents, member, process)"
        " values (%s, %s, %s, %s, %s, %s, %s)",
        (
            record.record_id,
            record.partition,
            record.offset,
            payment["reference"],
            payment["cents"],
            member,
            os.getpid(),
        ),
    )
    time.sleep(pause_s / 2)


def is_paid(record: Any, member: int, *, pause_s: float) -> bool:  # noqa: ARG001 - the same arguments as `pay`
    """Whether `pay` has happened for this record, by whichever member. Read-only, and true or false for good once the
    effect's time is over: what a check has to be."""
    return bool(
        _database().execute("select from payment where record_id = %s limit 1", (record.record_id,)).rowcount
    )


def _database() -> psycopg.Connection[Any]:
    """One connection for each process (Airflow forks its workers), opened again after it broke."""
    known = _connections.get(os.getpid())
    if known is None or known.closed:
        place = BaseHook.get_connection(EFFECTS)
        _connections.clear()
        known = _connections[os.getpid()] = psycopg.connect(
            host=place.host,
            port=place.port,
            user=place.login,
            password=place.password,
            dbname=place.schema,
            connect_timeout=5,
            autocommit=True,
        )
    return known


with DAG(
    dag_id="demo_payments",
    schedule="@once",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_runs=1,
    tags=["kafka-exactly", "demo"],
    doc_md=__doc__,
):
    KafkaExactlyOnceOperator.partial(
        task_id="pay",
        topics=[TOPIC],
        group_id="payments",
        apply_function=pay,
        apply_function_kwargs={"pause_s": 0.004},
        check=is_paid,
        until="forever",
        max_batch_size=500,
        effect_timeout=4,
        session_timeout=15,
        retries=10,
        retry_delay=timedelta(seconds=2),
    ).expand(apply_function_args=[[1], [2]])
