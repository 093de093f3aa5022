"""Functions that tests name by dotted path, as a DAG does; what they were called with is kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

from airflow_kafka_exactly.protocol.record import Record

EFFECTS: Counter[tuple[str, int, int]] = Counter()
ARGUMENTS: list[tuple[tuple[Any, ...], dict[str, Any]]] = []


def apply(record: Record, *args: Any, **kwargs: Any) -> None:
    EFFECTS[record.topic, record.partition, record.offset] += 1
    if args or kwargs:
        ARGUMENTS.append((args, kwargs))


def check(record: Record, *_: Any, **__: Any) -> bool:
    return EFFECTS[record.topic, record.partition, record.offset] > 0


def of(topic: str) -> dict[tuple[int, int], int]:
    """How often each record of the topic was applied, by partition and offset."""
    return {(number, offset): n for (name, number, offset), n in EFFECTS.items() if name == topic}
