"""When polling pauses: a pause costs what Kafka's client has fetched ahead, so that a moment's fullness is waited out."""

import threading
from types import SimpleNamespace
from typing import Any

from airflow_kafka_exactly.ports import Polled
from airflow_kafka_exactly.protocol.record import (
    OffsetRange,
    Partition,
    PartitionBatch,
    RawRecord,
    held_bytes,
)
from airflow_kafka_exactly.runtime import polling
from airflow_kafka_exactly.runtime.polling import Poller

P = Partition("t", 0, "topic")


class Consumer:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def pause(self) -> None:
        self.asked.append("pause")

    def resume(self) -> None:
        self.asked.append("resume")


def poller_with(records: int, room_for: int) -> Poller:
    polled = tuple(RawRecord(o, None, b"x" * 10, (), 0) for o in range(records))
    settings = SimpleNamespace(kafka=SimpleNamespace(prefetch_max_bytes=held_bytes(polled[:room_for])))
    shared: Any = SimpleNamespace(settings=settings)
    nobody: Any = None
    poller = Poller(nobody, nobody, shared, lambda _: None)
    poller.hand.assigned([P])
    poller.hand.polled(Polled((PartitionBatch(P, OffsetRange(0, records), polled),)))
    return poller


def throttled(poller: Poller) -> list[str]:
    consumer: Any = Consumer()
    poller._throttle(consumer)
    return list(consumer.asked)


def test_a_full_hand_that_stays_full_pauses_and_resumes_at_half() -> None:
    poller = poller_with(records=11, room_for=10)
    assert throttled(poller) == ["pause"]
    poller.hand.take(3)
    assert throttled(poller) == []
    poller.hand.take(3)
    assert throttled(poller) == ["resume"]


def test_a_full_hand_that_empties_in_time_is_not_paused(monkeypatch: Any) -> None:
    monkeypatch.setattr(polling, "ROOM_S", 60.0)
    poller = poller_with(records=11, room_for=10)
    taking = threading.Timer(0.01, poller.hand.take, [3])
    taking.start()
    assert throttled(poller) == []
    taking.join()
