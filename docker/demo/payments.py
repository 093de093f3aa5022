"""The demo's records (in Kafka) and their effects (in a database of their own)."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec

from demo.progress import DemoError

TOPIC, GROUP = "payments", "payments"
PARTITIONS = 6
_ADMIN_SECONDS = 30.0
# No unique key: nothing here would stop a second effect.
_EFFECTS_TABLE = """
create table payment (
  record_id text not null, partition_number integer not null, record_offset bigint not null,
  reference text not null, cents bigint not null, member integer not null, process integer not null,
  paid_at timestamptz not null default clock_timestamp()
);
create index payment_record on payment (record_id);
"""


class Topic:
    """The topic and its one consumer group, as Kafka sees them."""

    def __init__(self, bootstrap: str) -> None:
        self.partitions = PARTITIONS
        self._bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._reader = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP, "log_level": 0})
        """Never joins."""

    def create(self) -> None:
        wanted = NewTopic(TOPIC, self.partitions, 1)
        self._admin.create_topics([wanted], operation_timeout=_ADMIN_SECONDS)[TOPIC].result(_ADMIN_SECONDS)

    def add_partition(self) -> int:
        """Returns its number."""
        wanted = NewPartitions(TOPIC, self.partitions + 1)
        self._admin.create_partitions([wanted], operation_timeout=_ADMIN_SECONDS)[TOPIC].result(
            _ADMIN_SECONDS
        )
        self.partitions += 1
        return self.partitions - 1

    def produce(self, records: int) -> set[tuple[int, int]]:
        """Payments, dealt out over the partitions; returns partition and offset of each as the broker confirmed them."""
        stored: set[tuple[int, int]] = set()
        failed: list[str] = []

        def delivered(error: Any, message: Any) -> None:
            if error is None:
                stored.add((message.partition(), message.offset()))
            else:
                failed.append(str(error))

        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "enable.idempotence": True,
                "linger.ms": 20,
                "log_level": 3,
            }
        )
        for number in range(records):
            payment = {"reference": f"payment-{number:05}", "cents": 100 + number % 9_900}
            producer.produce(
                TOPIC,
                key=payment["reference"].encode(),
                value=json.dumps(payment).encode(),
                partition=number % self.partitions,
                on_delivery=delivered,
            )
            producer.poll(0)
        left = producer.flush(_ADMIN_SECONDS)
        if left or failed:
            raise DemoError(f"{left} payments were not delivered, {len(failed)} failed: {failed[:1]}")
        return stored

    def ends(self) -> dict[int, int]:
        asked = {TopicPartition(TOPIC, number): OffsetSpec.latest() for number in range(self.partitions)}
        found = self._admin.list_offsets(asked, request_timeout=_ADMIN_SECONDS)
        return {
            partition.partition: answer.result(_ADMIN_SECONDS).offset for partition, answer in found.items()
        }

    def committed(self) -> dict[int, int]:
        """The group's committed offsets; partitions without one are left out."""
        # Not by the admin client, which crashes the process while the group's coordinator moves (librdkafka issue 5040).
        asked = [TopicPartition(TOPIC, number) for number in range(self.partitions)]
        found = self._reader.committed(asked, timeout=_ADMIN_SECONDS)
        return {p.partition: p.offset for p in found if p.offset >= 0}

    def owners(self) -> dict[int, str]:
        """Partition to the slot (``group.instance.id``) that Kafka has given it to."""
        group = self._admin.describe_consumer_groups([GROUP], request_timeout=_ADMIN_SECONDS)[GROUP]
        return {
            part.partition: str(member.group_instance_id)
            for member in group.result(_ADMIN_SECONDS).members
            if member.assignment
            for part in member.assignment.topic_partitions
        }


@dataclass(frozen=True, slots=True)
class EffectCount:
    effects: int
    missing: list[tuple[int, int]]
    """Partition and offset of each record without an effect."""
    repeated: list[tuple[int, int]]
    """And of each with more than one."""


class Effects:
    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def _database(self) -> psycopg.Connection[Any]:
        """Opened again after it broke."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._conninfo, autocommit=True, connect_timeout=5)
        return self._connection

    def create_table(self) -> None:
        self._database.execute(_EFFECTS_TABLE)

    def total(self) -> int:
        row = self._database.execute("select count(*) from payment").fetchone()
        return int(row[0]) if row else 0

    def compare(self, produced: set[tuple[int, int]]) -> EffectCount:
        rows = self._database.execute("select partition_number, record_offset from payment")
        times = Counter((int(partition), int(offset)) for partition, offset in rows)
        return EffectCount(
            effects=times.total(),
            missing=sorted(produced - times.keys()),
            repeated=sorted(record for record, n in times.items() if n > 1),
        )
