"""Records, offset ranges and batches: what is consumed, before anybody has decided anything about it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter, itemgetter, lt
from typing import NamedTuple

Headers = tuple[tuple[str, bytes | None], ...]
LAST_OFFSET = 2**63 - 1


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of one topic. The topic id (Kafka's, KIP-516) tells a topic from a later one of the same name."""

    topic_id: str
    number: int
    topic: str

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


@dataclass(frozen=True, slots=True, order=True)
class OffsetRange:
    """Half-open `[start, stop)`, from the previous stop to the next position: gaps left by transaction markers, aborted
    and compacted records belong to a range, so that ranges leave no hole between them."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop <= LAST_OFFSET:
            raise ValueError(f"not an offset range: [{self.start}, {self.stop})")

    def __len__(self) -> int:
        return self.stop - self.start

    def __contains__(self, offset: int) -> bool:
        return self.start <= offset < self.stop

    def __str__(self) -> str:
        return f"[{self.start}, {self.stop})"

    def touches(self, other: OffsetRange) -> bool:
        return self.start < other.stop and other.start < self.stop


class RawRecord(NamedTuple):
    """A record as Kafka gave it. A plain tuple because there are millions of them."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


def strictly_growing(records: Sequence[RawRecord]) -> bool:
    """Whether each offset comes once, and after all smaller ones. Asked for each record several times: C code does it."""
    offsets = list(map(itemgetter(0), records))
    return all(map(lt, offsets, islice(offsets, 1, None)))


@dataclass(frozen=True, slots=True)
class FencingToken:
    """For targets that can refuse an old writer: later claims of a record carry a greater `claim_id`."""

    claim_id: int
    incarnation: int


class Record(NamedTuple):
    """What the user's function gets. A tuple underneath, like `RawRecord`, but meant to be read by its names.

    `value` and `key` are the bytes Kafka holds, or None (a null value is a tombstone). `timestamp_ms` is milliseconds since
    the epoch. `record_id` is the same whenever this record is seen, by whichever process.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    record_id: str
    fencing_token: FencingToken


@dataclass(frozen=True, slots=True)
class PartitionBatch:
    """One partition's part of a batch: the records that were polled in `range`, each offset once and in order (S1); possibly
    none (a gap)."""

    partition: Partition
    range: OffsetRange
    records: tuple[RawRecord, ...]

    def __post_init__(self) -> None:
        if self.records and not (
            self.records[0].offset in self.range and self.records[-1].offset in self.range
        ):
            raise ValueError(f"records of {self.partition} outside of {self.range}")
        if not strictly_growing(self.records):
            raise ValueError(f"offsets of {self.partition} in {self.range} do not grow")

    def cut(self, records: int) -> tuple[PartitionBatch, PartitionBatch | None]:
        """The part with the first `records` records, and the rest of the range; None when nothing is left."""
        if records >= len(self.records):
            return self, None
        at = self.records[records - 1].offset + 1 if records else self.range.start
        head = PartitionBatch(self.partition, OffsetRange(self.range.start, at), self.records[:records])
        return head, PartitionBatch(self.partition, OffsetRange(at, self.range.stop), self.records[records:])

    def between(self, start: int, stop: int) -> tuple[RawRecord, ...]:
        """The records whose offsets lie in `[start, stop)`."""
        first, last = (
            bisect_left(self.records, offset, key=attrgetter("offset")) for offset in (start, stop)
        )
        return self.records[first:last]


@dataclass(frozen=True, slots=True)
class Batch:
    """Records polled together, at most one part for each partition."""

    parts: tuple[PartitionBatch, ...]

    def __iter__(self) -> Iterator[PartitionBatch]:
        return iter(self.parts)

    def __len__(self) -> int:
        return sum(len(p.records) for p in self.parts)


def seen_by_user(
    raws: Iterable[RawRecord], partition: Partition, cluster_id: str, token: FencingToken, replay: int = 0
) -> list[Record]:
    """Records of one partition as the user's function gets them. The id is the default identity (`identity="offset"`):
    cluster, topic id, partition, offset and replay number."""
    topic, number = partition.topic, partition.number
    place = f"{cluster_id}/{partition.topic_id}/{number}"
    return [
        Record(topic, number, offset, key, value, headers, timestamp_ms, f"{place}/{offset}/{replay}", token)
        for offset, key, value, headers, timestamp_ms in raws
    ]


def as_polled(records: Iterable[Record]) -> list[RawRecord]:
    """The way back."""
    return [RawRecord(r.offset, r.key, r.value, r.headers, r.timestamp_ms) for r in records]


def payload_bytes(records: Sequence[RawRecord]) -> int:
    """How many bytes of key, value and headers the records hold (what doubt chunks are limited by)."""
    return sum(
        len(key or b"") + len(value or b"") + (_header_bytes(headers) if headers else 0)
        for _, key, value, headers, _ in records
    )


RECORD_BYTES, FIELD_BYTES, HEADER_BYTES = 176, 40, 200
"""What CPython takes for a record, for each key or value, and for each header, beside their contents (measured)."""


def held_bytes(records: Sequence[RawRecord]) -> int:
    """How much memory the records take (what prefetch is limited by): of small ones it is mostly not their contents."""
    return payload_bytes(records) + sum(
        RECORD_BYTES
        + (FIELD_BYTES if key is not None else 0)
        + (FIELD_BYTES if value is not None else 0)
        + HEADER_BYTES * len(headers)
        for _, key, value, headers, _ in records
    )


def _header_bytes(headers: Headers) -> int:
    return sum(len(name) + len(value or b"") for name, value in headers)
