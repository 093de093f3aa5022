"""Topics in memory: partitions with records, gaps and a last stable offset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_kafka_exactly.protocol.record import Headers, OffsetRange, Partition, RawRecord

Handing = Callable[[list[RawRecord]], list[RawRecord]]
"""How a client hands out what it fetched, when it does so wrongly."""


@dataclass(slots=True)
class PartitionLog:
    records: list[RawRecord] = field(default_factory=list)
    start: int = 0
    end: int = 0
    held_at: int | None = None
    """The first offset of an open transaction: nobody reads it or what is behind it."""
    handing: Handing | None = None
    """For the next fetch that finds records."""

    @property
    def stable(self) -> int:
        return self.end if self.held_at is None else self.held_at

    def append(self, key: bytes | None, value: bytes | None, headers: Headers, timestamp_ms: int) -> int:
        self.records.append(RawRecord(self.end, key, value, headers, timestamp_ms))
        self.end += 1
        return self.end - 1

    def gap(self, offsets: int) -> None:
        """Offsets without a record: what a transaction marker, an aborted or a compacted record leaves."""
        self.end += offsets

    def remove(self, removed: OffsetRange) -> None:
        """Compaction, or an aborted transaction: the records go, their offsets stay."""
        self.records = [r for r in self.records if r.offset not in removed]

    def delete_before(self, offset: int) -> None:
        """Retention."""
        self.start = max(self.start, offset)
        self.remove(OffsetRange(0, self.start))

    def read(self, position: int, limit: int) -> tuple[list[RawRecord], int]:
        """Up to `limit` stable records from `position`, and where the next range begins."""
        found = [r for r in self.records if position <= r.offset < self.stable][: limit + 1]
        if len(found) > limit:
            return found[:limit], (found[limit - 1].offset + 1 if limit else position)
        return found, max(position, self.stable)

    def handed_out(self, records: list[RawRecord]) -> list[RawRecord]:
        if self.handing is None or not records:
            return records
        handing, self.handing = self.handing, None
        return handing(records)


@dataclass(slots=True)
class Topic:
    name: str
    topic_id: str
    logs: list[PartitionLog]

    def partition(self, number: int) -> Partition:
        return Partition(self.topic_id, number, self.name)

    def partitions(self) -> list[Partition]:
        return [self.partition(n) for n in range(len(self.logs))]
