"""What the contestants work on: services, a topic full of records, and a coordinator that leads."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from contest.plan import Plan
from localstack import PostgreSQL, Stack
from psycopg import sql

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.adapters.postgres import migrate

PARTITIONS, VALUE_BYTES = 6, 100
RUN_TIMEOUT_S = 300.0
_WAIT_S = 60.0
_GIVEN = ("KX_KAFKA", "KX_ZOOKEEPER", "KX_POSTGRES")


class DurablePostgreSQL(PostgreSQL):
    """The local stack's server does without fsync, which would flatter the ledger."""

    def command(self) -> list[str]:
        return [*super().command(), "-c", "fsync=on", "-c", "full_page_writes=on"]


@contextlib.contextmanager
def services(brokers: int = 1) -> Iterator[tuple[str, str, str]]:
    """Addresses of Kafka, ZooKeeper and PostgreSQL: those of `KX_...` when all are given, else of services of our own."""
    given = [os.environ.get(name, "") for name in _GIVEN]
    if all(given):
        yield given[0], given[1], given[2]
        return
    with tempfile.TemporaryDirectory(prefix="kafka-exactly-benchmark-", ignore_cleanup_errors=True) as folder:
        stack = Stack(Path(folder), brokers=brokers)
        stack.postgres = DurablePostgreSQL(stack.state)
        try:
            stack.up()
            yield stack.bootstrap, stack.zookeeper.address, stack.postgres.address
        finally:
            stack.down()
            stack.postgres.remove()


@contextlib.contextmanager
def scene(addresses: tuple[str, str, str], records: int, batch: int, commit_every_s: float) -> Iterator[Plan]:
    """A ledger of its own, a topic that holds `records`, and a leader; all of it goes away afterwards."""
    name = f"benchmark_{uuid.uuid4().hex[:12]}"
    kafka, zookeeper, postgres = addresses
    plan = Plan(
        kafka=kafka,
        zookeeper=zookeeper,
        ledger=psycopg.conninfo.make_conninfo(postgres, dbname=name),
        root=f"/{name}",
        topic=name,
        records=records,
        batch=batch,
        commit_every_s=commit_every_s,
    )
    with database(postgres, name), topic(kafka, name, PARTITIONS):
        migrate(plan.services().ledger)
        _produce(plan)
        with _leader(plan):
            yield plan


def run(name: str, plan: Plan) -> float:
    """One run of one contestant, in a group of its own: its seconds. Fails when it did not see every record exactly once."""
    plan = replace(plan, group=f"{name}_{uuid.uuid4().hex[:12]}")
    with tempfile.TemporaryDirectory(prefix="kafka-exactly-airflow-") as home:
        done = program(["contest", name], plan.as_json(), RUN_TIMEOUT_S, AIRFLOW_HOME=home)
    answer = json.loads(done.stdout.splitlines()[-1])
    committed = _committed(plan)
    if (answer["records"], committed) != (plan.records, plan.records):
        raise SystemExit(
            f"{name}: {answer['records']} records seen, {committed} committed, of {plan.records}"
        )
    return float(answer["seconds"])


def fsync(postgres: str) -> str:
    with psycopg.connect(postgres) as connection:
        return str(connection.execute("SHOW fsync").fetchone()[0])  # type: ignore[index]


def _committed(plan: Plan) -> int:
    """Sum of the group's committed offsets."""
    reader = Consumer({"bootstrap.servers": plan.kafka, "group.id": plan.group})  # never joins
    known = reader.list_topics(plan.topic, timeout=_WAIT_S).topics[plan.topic].partitions
    found = reader.committed([TopicPartition(plan.topic, number) for number in known], timeout=_WAIT_S)
    reader.close()
    return sum(tp.offset for tp in found if tp.offset >= 0)


def program(
    arguments: Sequence[str], told: str, timeout_s: float, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A program of this folder's in a process of its own, which is told its plan and prints its answer last."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=_environment() | environment,
        input=told + "\n",
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    return done


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


@contextlib.contextmanager
def database(postgres: str, name: str) -> Iterator[None]:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def topic(kafka: str, name: str, partitions: int) -> Iterator[None]:
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(_WAIT_S)
    try:
        yield
    finally:
        admin.delete_topics([name])[name].result(_WAIT_S)


def _produce(plan: Plan) -> None:
    producer = Producer({"bootstrap.servers": plan.kafka, "linger.ms": 20, "acks": "all"})
    value = bytes(VALUE_BYTES)
    for number in range(plan.records):
        while True:
            try:
                producer.produce(plan.topic, value, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.05)
    if producer.flush(_WAIT_S):
        raise SystemExit(f"Kafka did not take {plan.records} records within {_WAIT_S:.0f} s")


@contextlib.contextmanager
def _leader(plan: Plan) -> Iterator[None]:
    coordinator = subprocess.Popen(
        [sys.executable, "-m", "contest", "coordinator"], env=_environment(), stdin=subprocess.PIPE, text=True
    )
    assert coordinator.stdin is not None
    try:
        coordinator.stdin.write(plan.as_json() + "\n")
        coordinator.stdin.flush()
        with wiring.shared_directory(plan.services().election) as directory:
            deadline = time.monotonic() + _WAIT_S
            while directory.leader_address() is None:
                if coordinator.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the coordinator does not lead")
                time.sleep(0.1)
        yield
    finally:
        coordinator.stdin.close()
        try:
            coordinator.wait(_WAIT_S)
        except subprocess.TimeoutExpired:
            coordinator.kill()
