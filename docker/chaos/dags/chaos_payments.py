"""Three members of one group under faults. The effect is a plain `INSERT` without a unique key, so that a repeated one is seen.

The database of the effects suffers too: `is_paid` is asked until it can be answered, because "I cannot tell" would ask a person.
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

PAUSE_S = 0.010
"""Three members pay about three times as fast as the producer asks: they catch up after a fault, and often wait for records."""
ASK_FOR_S = 30.0

_connections: dict[int, psycopg.Connection[Any]] = {}


def pay(record: Any, member: int) -> None:
    """Half of the pause before the effect, half after: a fault does not know on which side it strikes."""
    payment = json.loads(record.value)
    time.sleep(PAUSE_S / 2)
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
    time.sleep(PAUSE_S / 2)


def is_paid(record: Any, member: int) -> bool:  # noqa: ARG001 - the same arguments as `pay`
    """Raises when the database could not be asked for `ASK_FOR_S`."""
    deadline = time.monotonic() + ASK_FOR_S
    while True:
        try:
            query = "select from payment where record_id = %s limit 1"
            return bool(_database().execute(query, (record.record_id,)).rowcount)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _database() -> psycopg.Connection[Any]:
    """One connection for each process (Airflow forks its workers), opened again after it broke."""
    known = _connections.get(os.getpid())
    if known is None or known.closed:
        place = BaseHook.get_connection("effects")
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
    dag_id="chaos_payments",
    schedule="@once",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_runs=1,
    tags=["kafka-exactly", "chaos"],
    doc_md=__doc__,
):
    KafkaExactlyOnceOperator.partial(
        task_id="pay",
        topics=["payments"],
        group_id="payments",
        apply_function=pay,
        check=is_paid,
        until="forever",
        max_batch_size=300,
        max_attempts=1000,
        effect_timeout=4,
        session_timeout=15,
        retries=1000,
        retry_delay=timedelta(seconds=2),
    ).expand(apply_function_args=[[1], [2], [3]])
