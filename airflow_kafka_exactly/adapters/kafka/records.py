"""Messages into records, in bulk, in the order in which they came.

This is the hot loop: what is done for each record is done by C code in `map` and `zip`.

consume() -> [Message, ...] -> {(topic, number): Piece} and [trouble, ...]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, repeat
from operator import itemgetter
from typing import Any, Final, cast

from confluent_kafka import KafkaError, Message

from airflow_kafka_exactly.protocol import unreadable
from airflow_kafka_exactly.protocol.record import Headers, RawRecord
from airflow_kafka_exactly.protocol.sequence import End

Key = tuple[str, int]
"""Topic name and partition number: what Kafka's client goes by."""


@dataclass(slots=True)
class Piece:
    """What one poll brought for one partition."""

    records: list[RawRecord] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)


@dataclass(slots=True)
class Collected:
    pieces: dict[Key, Piece] = field(default_factory=dict)
    troubles: list[Message] = field(default_factory=list)
    """Error events that are not ends of partitions."""

    def piece(self, key: Key) -> Piece:
        return self.pieces.setdefault(key, Piece())


_place: Final = cast("Callable[[Any], Key]", itemgetter(0, 1))
_build: Final = cast(
    "Callable[[Any], RawRecord]", partial(tuple.__new__, RawRecord)
)  # RawRecord(*fields), without Python code


def collect(messages: Sequence[Message]) -> Collected:
    """Sort messages and events by partition, in the order in which they came."""
    found = Collected()
    errors = list(map(Message.error, messages))
    if not any(errors):  # `KafkaError` cannot be compared with None
        _add_records(found, messages)
        return found
    start = 0
    for at, error in enumerate(errors):
        if error is not None:
            _add_records(found, messages[start:at])
            _add_event(found, messages[at], error)
            start = at + 1
    _add_records(found, messages[start:])
    return found


def _add_records(found: Collected, messages: Sequence[Message]) -> None:
    for key, run in _runs(messages):
        found.piece(key).records.extend(raw_records(run))


def _add_event(found: Collected, message: Message, error: KafkaError) -> None:
    if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 -- the client's public name for it
        found.troubles.append(message)
        return
    topic, number, offset = message.topic(), message.partition(), message.offset()
    if topic is not None and number is not None and offset is not None:
        piece = found.piece((topic, number))
        piece.ends.append((len(piece.records), offset))


def _runs(messages: Sequence[Message]) -> Iterator[tuple[Key, list[Message]]]:
    """Neighbours of one partition: a fetch brings thousands of them in a row."""
    placed = zip(map(Message.topic, messages), map(Message.partition, messages), messages, strict=True)
    for key, run in groupby(placed, _place):
        yield key, [message for _, _, message in run]


def raw_records(messages: Sequence[Message]) -> list[RawRecord]:
    """Any bytes as they are; a null value is None, and no headers are an empty tuple."""
    fields = zip(
        map(Message.offset, messages),
        map(Message.key, messages),
        map(Message.value, messages),
        _headers(messages),
        map(itemgetter(1), map(Message.timestamp, messages)),
        strict=False,  # `repeat` has no end
    )
    return list(map(_build, fields))


def _headers(messages: Sequence[Message]) -> Iterable[Headers]:
    headers: list[Any] = []
    reading = map(Message.headers, messages)
    while True:
        try:
            headers.extend(reading)
            break
        except Exception as error:  # noqa: BLE001 -- whatever is wrong with one record, its neighbours are read
            # Once only: the client has thrown these headers away, and would say next time that there are none.
            headers.append(unreadable.headers_of(error))
    if headers.count(None) == len(headers):
        return repeat(())
    return [tuple(h) if h else () for h in headers]
