"""Records, offset ranges and batches: what is consumed, before anybody has decided anything about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Headers = tuple[tuple[str, bytes | None], ...]


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
        if not 0 <= self.start <= self.stop:
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


@dataclass(frozen=True, slots=True)
class FencingToken:
    """For targets that can refuse an old writer: later claims of a record carry a greater `claim_id`."""

    claim_id: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class Record:
    """What the user's function gets.

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
    """One partition's part of a batch: the records that were polled in `range`, in offset order; possibly none (a gap)."""

    partition: Partition
    range: OffsetRange
    records: tuple[RawRecord, ...]

    def __post_init__(self) -> None:
        if self.records and not (self.records[0].offset in self.range and self.records[-1].offset in self.range):
            raise ValueError(f"records of {self.partition} outside of {self.range}")

    def between(self, start: int, stop: int) -> tuple[RawRecord, ...]:
        """The records whose offsets lie in `[start, stop)`."""
        return tuple(r for r in self.records if start <= r.offset < stop)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records polled together, at most one part for each partition."""

    parts: tuple[PartitionBatch, ...]

    def __iter__(self) -> Iterator[PartitionBatch]:
        return iter(self.parts)

    def __len__(self) -> int:
        return sum(len(p.records) for p in self.parts)


def record_id(cluster_id: str, partition: Partition, offset: int, replay: int = 0) -> str:
    """The default identity (`identity="offset"`): cluster, topic id, partition, offset and replay number."""
    return f"{cluster_id}/{partition.topic_id}/{partition.number}/{offset}/{replay}"


def seen_by_user(
    raw: RawRecord, partition: Partition, cluster_id: str, token: FencingToken, replay: int = 0
) -> Record:
    """The record as the user's function gets it."""
    return Record(
        partition.topic,
        partition.number,
        raw.offset,
        raw.key,
        raw.value,
        raw.headers,
        raw.timestamp_ms,
        record_id(cluster_id, partition, raw.offset, replay),
        token,
    )


def payload_bytes(records: Sequence[RawRecord]) -> int:
    """How many bytes of key, value and headers the records hold (what prefetch and doubt chunks are limited by)."""
    return sum(
        len(r.key or b"") + len(r.value or b"") + sum(len(n) + len(v or b"") for n, v in r.headers) for r in records
    )
