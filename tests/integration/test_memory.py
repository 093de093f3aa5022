"""What a member holds and what Kafka's client has fetched ahead: the memory that both take, on real Kafka, for records of any
size. Measured in a process of its own, in which nobody takes the records."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import resident
from confluent_kafka import Producer

pytestmark = pytest.mark.integration
MIB = 1024 * 1024
LARGE = 10_000_000


def measured(kafka: str, topic: str, limit: int) -> dict[str, int]:
    program = [sys.executable, str(Path(resident.__file__)), kafka, topic, str(limit)]
    ran = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, int] = json.loads(ran.stdout)
    return found


@pytest.fixture
def filled(kafka: str, topic: Callable[..., str]) -> Callable[[int, int], str]:
    def fill(size: int, count: int) -> str:
        name = topic(**{"max.message.bytes": str(2 * LARGE)})
        producer = Producer(
            {
                "bootstrap.servers": kafka,
                "message.max.bytes": 2 * LARGE,
                "queue.buffering.max.messages": count + 1,
            }
        )
        for _ in range(count):
            producer.produce(name, b"x" * size if size else None, partition=0)
        assert producer.flush(60) == 0
        return name

    return fill


@pytest.mark.parametrize(
    ("size", "count", "limit"),
    [(0, 180_000, 16 * MIB), (10, 180_000, 16 * MIB), (100_000, 500, 16 * MIB), (LARGE, 18, 64 * MIB)],
)
def test_memory_grows_by_what_is_stated(
    kafka: str, filled: Callable[[int, int], str], size: int, count: int, limit: int
) -> None:
    found = measured(kafka, filled(size, count), limit)
    assert found["held"] < count, "enough to fill the hand"
    assert found["queue"] < 1.2 * limit, found
    assert 0.8 * limit < found["all"] < 1.2 * 2 * limit, found


def test_a_record_larger_than_the_limit_passes_alone(kafka: str, filled: Callable[[int, int], str]) -> None:
    found = measured(kafka, filled(LARGE, 4), MIB)
    assert (found["held"], found["largest_poll"]) == (1, 1)
