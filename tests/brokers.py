"""One broker, two kinds: Kafka and the one in memory, driven by the same verbs. And what a test's member does with them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]

from airflow_kafka_exactly.adapters.kafka import ClusterAdmin, KafkaConsumers
from airflow_kafka_exactly.adapters.memory.broker import MemoryBroker
from airflow_kafka_exactly.ports import Consumers, GroupConsumer, KafkaAdmin, Polled
from airflow_kafka_exactly.protocol.claims import Opening
from airflow_kafka_exactly.protocol.record import Headers, OffsetRange, Partition, PartitionBatch, RawRecord
from airflow_kafka_exactly.settings import KafkaSettings


def unique(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:12]}"


class Cluster(Protocol):
    """What a test does to a broker from outside."""

    kind: str

    def topic(self, partitions: int = 1) -> str: ...
    def produce(
        self,
        topic: str,
        *values: bytes | None,
        number: int = 0,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> None: ...
    def transaction(self, topic: str, *values: bytes, commit: bool) -> None: ...
    def delete(self, topic: str) -> None: ...
    def recreate(self, topic: str, partitions: int = 1) -> None: ...
    def add_partitions(self, topic: str, partitions: int) -> None: ...
    def delete_before(self, topic: str, number: int, offset: int) -> None: ...
    def plain_commit(self, group_id: str, topic: str, number: int, offset: int) -> None: ...
    def end_session(self, group_id: str, slot: str) -> None:
        """Of a closed consumer: its place goes."""
        ...

    def consumers(self, settings: KafkaSettings) -> Consumers: ...
    def admin(self) -> KafkaAdmin: ...
    def config(self) -> Mapping[str, Any]: ...


def settings(cluster: Cluster, *topics: str, group_id: str = "", **changes: Any) -> KafkaSettings:
    config = {**cluster.config(), **changes.pop("config", {})}
    return KafkaSettings(
        connection="kafka_test",
        config=config,
        group_id=group_id or unique("group"),
        topics=topics,
        session_timeout_s=6,
        **changes,
    )


class RealCluster:
    kind = "kafka"

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._client = AdminClient({"bootstrap.servers": bootstrap})
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    def config(self) -> Mapping[str, Any]:
        """The product's own client settings: what a test sets here could hide what they do."""
        return {"bootstrap.servers": self.bootstrap}

    def topic(self, partitions: int = 1) -> str:
        name = unique("topic")
        self._create(name, partitions)
        return name

    def _create(self, name: str, partitions: int) -> None:
        self._client.create_topics([NewTopic(name, partitions, 1)])[name].result(30)

    def produce(
        self,
        topic: str,
        *values: bytes | None,
        number: int = 0,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> None:
        for value in values:
            self._producer.produce(topic, value, key=key, partition=number, headers=list(headers) or None)
            # One by one: what is sent again because the topic is new to the producer would come after its successors.
            assert self._producer.flush(30) == 0

    def transaction(self, topic: str, *values: bytes, commit: bool) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "transactional.id": unique("tx")})
        producer.init_transactions(30)
        producer.begin_transaction()
        for value in values:
            producer.produce(topic, value, partition=0)
        producer.flush(30)
        (producer.commit_transaction if commit else producer.abort_transaction)(30)

    def delete(self, topic: str) -> None:
        self._client.delete_topics([topic])[topic].result(30)

    def recreate(self, topic: str, partitions: int = 1) -> None:
        self.delete(topic)
        self._create(topic, partitions)

    def add_partitions(self, topic: str, partitions: int) -> None:
        self._client.create_partitions([NewPartitions(topic, partitions)])[topic].result(30)

    def delete_before(self, topic: str, number: int, offset: int) -> None:
        for future in self._client.delete_records([TopicPartition(topic, number, offset)]).values():
            future.result(30)

    def plain_commit(self, group_id: str, topic: str, number: int, offset: int) -> None:
        plain = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": group_id, "enable.auto.commit": False}
        )
        plain.commit(offsets=[TopicPartition(topic, number, offset)], asynchronous=False)
        plain.close()

    def end_session(self, group_id: str, slot: str) -> None:
        admin = self.admin()
        eventually(lambda: slot not in admin.instances(group_id), 20)

    def consumers(self, settings: KafkaSettings) -> Consumers:
        return KafkaConsumers(settings)

    def admin(self) -> KafkaAdmin:
        return ClusterAdmin("kafka_test", self.config())


class MemoryCluster:
    kind = "memory"

    def __init__(self) -> None:
        self.broker = MemoryBroker()

    def config(self) -> Mapping[str, Any]:
        return {}

    def topic(self, partitions: int = 1) -> str:
        name = unique("topic")
        self.broker.create_topic(name, partitions)
        return name

    def produce(
        self,
        topic: str,
        *values: bytes | None,
        number: int = 0,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> None:
        for value in values:
            self.broker.produce(topic, value, number=number, key=key, headers=headers)

    def transaction(self, topic: str, *values: bytes, commit: bool) -> None:
        offsets = [self.broker.produce(topic, value) for value in values]
        if not commit:
            self.broker.remove(topic, 0, OffsetRange(offsets[0], offsets[-1] + 1))
        self.broker.gap(topic)  # the marker

    def delete(self, topic: str) -> None:
        self.broker.delete_topic(topic)

    def recreate(self, topic: str, partitions: int = 1) -> None:
        self.delete(topic)
        self.broker.create_topic(topic, partitions)

    def add_partitions(self, topic: str, partitions: int) -> None:
        self.broker.add_partitions(topic, partitions)

    def delete_before(self, topic: str, number: int, offset: int) -> None:
        self.broker.delete_before(topic, number, offset)

    def plain_commit(self, group_id: str, topic: str, number: int, offset: int) -> None:
        self.broker.plain_commit(group_id, topic, number, offset)

    def end_session(self, group_id: str, slot: str) -> None:
        self.broker.expire(group_id, slot)

    def consumers(self, settings: KafkaSettings) -> Consumers:
        return self.broker.consumers(settings)

    def admin(self) -> KafkaAdmin:
        return self.broker.admin()


class TestMember:
    """A listener that writes down what it is told, and the consumer it listens to."""

    __test__ = False

    def __init__(self, consumers: Consumers, slot: str = "dag.task[0]") -> None:
        self.told: list[tuple[str, frozenset[int]]] = []
        self.openings: dict[int, Opening] = {}
        self.starts: dict[int, int] = {}
        """Where to start instead of where Kafka says, by partition number."""
        self.batches: list[PartitionBatch] = []
        self.at_end: set[Partition] = set()
        self.missed: dict[Partition, OffsetRange] = {}
        self.on_revoke: Callable[[Sequence[Partition]], None] = lambda _: None
        self.on_assign: Callable[[Sequence[Opening]], None] = lambda _: None
        self.consumer: GroupConsumer = consumers.open(slot, self)

    def assigned(self, openings: Sequence[Opening]) -> Mapping[Partition, int]:
        self.told.append(("assigned", frozenset(o.partition.number for o in openings)))
        self.openings |= {o.partition.number: o for o in openings}
        self.on_assign(openings)
        return {o.partition: self.starts.get(o.partition.number, o.start) for o in openings}

    def revoked(self, partitions: Sequence[Partition]) -> None:
        self.told.append(("revoked", frozenset(p.number for p in partitions)))
        self.on_revoke(partitions)

    def lost(self, partitions: Sequence[Partition]) -> None:
        self.told.append(("lost", frozenset(p.number for p in partitions)))

    def poll(self, max_records: int = 100, timeout_s: float = 0.1) -> Polled:
        polled = self.consumer.poll(max_records, timeout_s)
        assert not (polled.lost.keys() & self.missed.keys()), "told once"
        self.missed |= polled.lost
        self.batches += polled.batches
        self.at_end -= {b.partition for b in polled.batches}
        self.at_end |= polled.at_end
        return polled

    def poll_until(self, reached: Callable[[], object], within_s: float = 20, max_records: int = 100) -> None:
        eventually(lambda: bool(self.poll(max_records)) and reached(), within_s, pause_s=0)

    def owns(self, *numbers: int) -> bool:
        return {p.number for p in self.consumer.assignment()} == set(numbers)

    def values(self) -> list[bytes | None]:
        return [r.value for r in self.records()]

    def records(self) -> list[RawRecord]:
        return [r for batch in self.batches for r in batch.records]

    def stop_of(self, number: int = 0) -> int:
        """Behind the last range of a partition."""
        return max((b.range.stop for b in self.batches if b.partition.number == number), default=0)


def eventually(reached: Callable[[], object], within_s: float = 20, pause_s: float = 0.02) -> None:
    """Wait for a condition; what it says last is not hidden by the wait."""
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline, f"not reached within {within_s} s"
        time.sleep(pause_s)


def all_owned(members: Sequence[TestMember], partitions: int) -> bool:
    """Whether each partition has exactly one owner among the members, evenly."""
    counts = [len(m.consumer.assignment()) for m in members]
    owned = {p for m in members for p in m.consumer.assignment()}
    return len(owned) == partitions == sum(counts) and max(counts) - min(counts) <= 1
