"""Which partitions this member owns, and where it stands in each."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from airflow_kafka_exactly.adapters.kafka.records import Key, Piece
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch
from airflow_kafka_exactly.protocol.sequence import take

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Handed:
    batch: PartitionBatch | None
    """None when there is nothing new."""
    at_end: bool


@dataclass(slots=True)
class Owned:
    partition: Partition
    next: int
    """Where the next range begins: moves only by what is handed over."""

    def take(self, piece: Piece) -> Handed | None:
        """The range from where the last one stopped, over any gap. None when the client's order makes no sense: nothing has
        moved, and it must fetch from `next` again."""
        start = self.next
        taken = take(start, piece.records, piece.ends)
        if taken is None:
            log.error(
                "%s: Kafka's client went back to an offset that it had passed over; fetching from %d again",
                *(self.partition, start),
            )
            return None
        if taken.surplus:
            log.warning(
                "%s: Kafka's client handed %d records out that it had handed out before; dropped, the next offset is %d",
                *(self.partition, taken.surplus, taken.stop),
            )
        self.next = taken.stop
        if taken.stop == start:
            return Handed(None, taken.at_end)
        batch = PartitionBatch(self.partition, OffsetRange(start, taken.stop), taken.records)
        return Handed(batch, taken.at_end)


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
