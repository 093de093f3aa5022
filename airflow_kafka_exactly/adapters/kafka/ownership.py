"""Which partitions this member owns, and where it stands in each."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from airflow_kafka_exactly.adapters.kafka.records import Key, Piece
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch, RawRecord


@dataclass(slots=True)
class Owned:
    partition: Partition
    next: int
    """Where the next range begins: moves only by what is handed over."""

    def take(self, piece: Piece) -> PartitionBatch | None:
        """The range from where the last one stopped, over any gap; None when there is nothing new."""
        start, stop = self.next, max(self.next, piece.stop)
        if stop == start:
            return None
        records: list[RawRecord] = piece.records
        if records and records[0].offset < start:
            records = [r for r in records if r.offset >= start]
        self.next = stop
        return PartitionBatch(self.partition, OffsetRange(start, stop), tuple(records))


class Ownership:
    """Written by the polling thread, read by others.

    `lock` is held while an offset commit is out, so that a partition that has been taken away has none (case 29).
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._owned: dict[Key, Owned] = {}

    def __getitem__(self, key: Key) -> Owned:
        return self._owned[key]

    def get(self, key: Key) -> Owned | None:
        return self._owned.get(key)

    def __iter__(self) -> Iterator[Key]:
        return iter(tuple(self._owned))

    def partitions(self) -> frozenset[Partition]:
        return frozenset(owned.partition for owned in tuple(self._owned.values()))

    def of(self, keys: Iterable[Key]) -> tuple[Partition, ...]:
        return tuple(sorted(self._owned[key].partition for key in keys if key in self._owned))

    def holds(self, partition: Partition) -> bool:
        owned = self._owned.get((partition.topic, partition.number))
        return owned is not None and owned.partition == partition

    def add(self, starts: Mapping[Partition, int]) -> None:
        with self.lock:
            for partition, start in starts.items():
                self._owned[partition.topic, partition.number] = Owned(partition, start)

    def remove(self, keys: Iterable[Key]) -> None:
        with self.lock:
            for key in keys:
                self._owned.pop(key, None)

    def clear(self) -> None:
        """Closed; called with the lock held."""
        self._owned.clear()
