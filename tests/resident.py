"""How much the resident memory of a process grows when a member polls and nobody takes its records. Run as a program, so that
nothing else is in the process. First Kafka's client is left alone until its queue is full, then the hand is filled.

    python resident.py <bootstrap servers> <topic> <prefetch_max_bytes> -> {"queue": bytes, "all": bytes, ...}
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from airflow_kafka_exactly.adapters.kafka import KafkaConsumers
from airflow_kafka_exactly.protocol.claims import Opening
from airflow_kafka_exactly.protocol.record import Partition
from airflow_kafka_exactly.runtime.polling import Hand
from airflow_kafka_exactly.settings import KafkaSettings

MAX_RECORDS, QUIET_S, LIMIT_S = 1000, 0.5, 20.0


class Owner:
    """The polling thread's part: a member without a ledger."""

    def __init__(self, hand: Hand) -> None:
        self.hand = hand

    def assigned(self, openings: Sequence[Opening]) -> Mapping[Partition, int]:
        starts = {opening.partition: 0 for opening in openings}
        self.hand.assigned(starts)
        return starts

    def revoked(self, partitions: Sequence[Partition]) -> None:
        self.hand.gone(partitions)

    lost = revoked


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


def settled() -> int:
    """What is resident when it has not grown for a while."""
    most, until = resident(), time.monotonic() + QUIET_S
    while time.monotonic() < until:
        time.sleep(0.02)
        if (now := resident()) > most:
            most, until = now, time.monotonic() + QUIET_S
    return most


def within(condition: Callable[[], bool], step: Callable[[], None]) -> None:
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until, "too slow"
        step()


def main(bootstrap: str, topic: str, limit_bytes: int) -> dict[str, int]:
    hand, polls = Hand(limit_bytes), [0]
    settings = KafkaSettings(
        connection="kafka_test",
        config={"bootstrap.servers": bootstrap},
        group_id=f"group of {topic}",
        topics=(topic,),
        prefetch_max_bytes=limit_bytes,
        session_timeout_s=6,
    )
    consumer = KafkaConsumers(settings).open("dag.task", Owner(hand))
    before = resident()

    def poll(max_records: int) -> None:
        polled = consumer.poll(max_records, 0.1)
        polls.append(sum(len(batch.records) for batch in polled.batches))
        hand.polled(polled)

    within(lambda: bool(hand.pending_records()), lambda: poll(1))
    queue = settled() - before
    within(lambda: hand.full, lambda: poll(MAX_RECORDS))
    settled()  # the client fills its queue again
    return {
        "queue": queue,
        "all": peak() - before,
        "held": hand.pending_records(),
        "largest_poll": max(polls),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))), flush=True)
    os._exit(0)
