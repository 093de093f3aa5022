"""Kafka's consumer with a scripted client: what librdkafka gives is written down, what is made of it is the product's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest
from brokers import TestMember
from confluent_kafka import OFFSET_INVALID, Message, TopicPartition

from airflow_kafka_exactly.adapters.kafka import consumer as module
from airflow_kafka_exactly.adapters.kafka.consumer import KafkaGroupConsumer
from airflow_kafka_exactly.ports import TopicFacts
from airflow_kafka_exactly.protocol.record import OffsetRange
from airflow_kafka_exactly.settings import KafkaSettings

Step = Callable[[], list[Message]]


class Client:
    """librdkafka's part, from a script: each `consume` takes the next step, and positions are written down."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.positions: dict[int, int] = {}
        self.paused: set[int] = set()
        self.offset = OFFSET_INVALID

    def subscribe(self, _: object, *, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self._assign, self._revoke, self._lose = on_assign, on_revoke, on_lost

    def assigned(self) -> list[Message]:
        self._assign(self, [TopicPartition("t", 0)])
        return []

    def assigned_too(self, topic: str) -> list[Message]:
        self._assign(self, [TopicPartition(topic, 3), TopicPartition("t", 0)])
        return []

    def lost(self) -> None:
        self._lose(self, [TopicPartition("t", 0)])

    def consume(self, _count: int, _timeout_s: float) -> list[Message]:
        return self.steps.pop(0)() if self.steps else []

    def committed(self, partitions: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        del timeout
        return [TopicPartition(p.topic, p.partition, self.offset) for p in partitions]

    def incremental_assign(self, partitions: Iterable[TopicPartition]) -> None:
        self.positions |= {p.partition: p.offset for p in partitions}

    def incremental_unassign(self, partitions: Iterable[TopicPartition]) -> None:
        for p in partitions:
            del self.positions[p.partition]

    def seek(self, partition: TopicPartition) -> None:
        self.positions[partition.partition] = partition.offset

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self.paused |= {p.partition for p in partitions}

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self.paused -= {p.partition for p in partitions}


class Admin:
    def __init__(self) -> None:
        self.topic_id = "old"
        self.fault: Exception | None = None
        self.high = 0

    def topics(self, names: Sequence[str], timeout_s: float | None = None) -> Mapping[str, TopicFacts]:
        del timeout_s
        if self.fault is not None:
            raise self.fault
        return {name: TopicFacts(name, self.topic_id, 1) for name in names}

    def earliest(self, partitions: Iterable[Any]) -> Mapping[Any, int]:
        return dict.fromkeys(partitions, 0)

    def latest(self, partitions: Iterable[Any]) -> Mapping[Any, int]:
        return dict.fromkeys(partitions, self.high)


class Scene:
    """One member of a topic with one partition."""

    def __init__(self) -> None:
        self.client, self.admin = Client(), Admin()
        self._config = {"bootstrap.servers": "nowhere:1"}

    def open(self, slot: str, listener: Any) -> KafkaGroupConsumer:
        settings = KafkaSettings(connection="c", config=self._config, group_id="g", topics=("t",))
        return KafkaGroupConsumer(settings, slot, listener, self.admin)  # type: ignore[arg-type]

    def then(self, *steps: Step) -> None:
        self.client.steps += steps

    def member(self, monkeypatch: pytest.MonkeyPatch, start: int = 0) -> TestMember:
        """It owns the old topic's partition, from `start`."""
        monkeypatch.setattr(module, "Consumer", lambda _: self.client)
        one = TestMember(self)  # type: ignore[arg-type]
        one.starts[0] = start
        self.then(self.client.assigned)
        one.poll()
        assert self.client.positions == {0: start}
        return one


def record(offset: int) -> Message:
    return Message(topic="t", partition=0, offset=offset, value=b"%d" % offset, timestamp=(1, 0))


def fetched(*offsets: int) -> Step:
    return lambda: [record(offset) for offset in offsets]


def ranges(member: TestMember) -> list[tuple[str, OffsetRange, list[int]]]:
    return [(b.partition.topic_id, b.range, [r.offset for r in b.records]) for b in member.batches]
