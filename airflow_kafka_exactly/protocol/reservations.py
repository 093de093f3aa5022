"""Who was told *fresh*: until a slot claims what it asked for, drops it or is fenced, no other slot is told the same (S6).

Kept as disjoint offset ranges of each partition. A slot that reads a partition in order has one growing range, whatever its
batches are, so the memory needed is that of the changes of ownership since the frontier, and it is bounded: see `MAX_RANGES`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.protocol.votes import Offsets

MAX_RANGES = 50_000
"""In one partition. Reaching it takes as many changes of ownership above one frontier."""
NOBODY = -1

Holders = npt.NDArray[np.int64]
"""Shape (n,): the number of the slot that holds each offset, or `NOBODY`."""
Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class _Row:
    """One partition's ranges, disjoint and sorted; three lists, so that looking up is two bisections."""

    starts: list[int] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)


class Reservations:
    def __init__(self) -> None:
        self._rows: dict[Partition, _Row] = {}
        self._numbers: dict[str, int] = {}

    def reserve(self, slot: str, partition: Partition, offsets: Offsets, chosen: Mask) -> None:
        """Reserve the chosen of `offsets` (ascending) for the slot, as far as nobody holds them. Gaps between two chosen
        neighbours go with them."""
        row = self._rows.setdefault(partition, _Row())
        number = self._numbers.setdefault(slot, len(self._numbers))
        for run in _runs(offsets, chosen):
            for free in list(_free(row, run)):
                _insert(row, free, number)

    def holds_for_others(self, slot: str, partition: Partition, offsets: Offsets) -> Mask:
        """Shape (n,): which offsets are reserved for another slot."""
        holders = self._holders(partition, offsets)
        others: Mask = (holders != NOBODY) & (holders != self._numbers.get(slot, NOBODY))
        return others

    def holds(self, partition: Partition, offsets: Offsets) -> Mask:
        """Shape (n,): which offsets are reserved, for whomever."""
        held: Mask = self._holders(partition, offsets) != NOBODY
        return held

    def free(self, slot: str, partitions: Iterable[Partition] | None = None) -> None:
        """The slot dropped the partitions, or (None) is fenced or closed."""
        number = self._numbers.get(slot)
        for partition in list(self._rows) if partitions is None else partitions:
            row = self._rows.get(partition)
            if row is not None and number is not None:
                self._keep(partition, [i for i, s in enumerate(row.slots) if s != number])

    def passed(self, frontiers: Mapping[Partition, int]) -> None:
        """Below the frontier everything is settled or a doubt: the ledger is asked, nothing needs to stay reserved."""
        for partition, frontier in frontiers.items():
            row = self._rows.get(partition)
            if row is None:
                continue
            self._keep(partition, list(range(bisect_right(row.stops, frontier), len(row.stops))))
            if row.starts:
                row.starts[0] = max(row.starts[0], frontier)

    def slots(self) -> frozenset[str]:
        """The slots that hold anything."""
        held = {number for row in self._rows.values() for number in row.slots}
        return frozenset(slot for slot, number in self._numbers.items() if number in held)

    def ranges(self) -> Iterator[tuple[Partition, OffsetRange]]:
        for partition, row in self._rows.items():
            for start, stop in zip(row.starts, row.stops, strict=True):
                yield partition, OffsetRange(start, stop)

    def full(self, partition: Partition) -> bool:
        row = self._rows.get(partition)
        return row is not None and len(row.starts) >= MAX_RANGES

    def __len__(self) -> int:
        """How many ranges."""
        return sum(len(row.starts) for row in self._rows.values())

    def _holders(self, partition: Partition, offsets: Offsets) -> Holders:
        holders = np.full(len(offsets), NOBODY, dtype=np.int64)
        row = self._rows.get(partition)
        if row is None or not row.starts:
            return holders
        at = np.searchsorted(np.asarray(row.starts), offsets, side="right") - 1
        inside = (at >= 0) & (offsets < np.asarray(row.stops)[at])
        holders[inside] = np.asarray(row.slots)[at[inside]]
        return holders

    def _keep(self, partition: Partition, indexes: list[int]) -> None:
        row = self._rows[partition]
        row.starts = [row.starts[i] for i in indexes]
        row.stops = [row.stops[i] for i in indexes]
        row.slots = [row.slots[i] for i in indexes]
        if not indexes:
            del self._rows[partition]


def _runs(offsets: Offsets, chosen: Mask) -> Iterator[OffsetRange]:
    """Neighbours in `offsets` that are all chosen, as ranges."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], chosen, [False])).astype(np.int8)))
    for first, after in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield OffsetRange(int(offsets[first]), int(offsets[after - 1]) + 1)


def _free(row: _Row, wanted: OffsetRange) -> Iterator[OffsetRange]:
    """The parts of `wanted` that nobody holds."""
    start = wanted.start
    for i in range(bisect_right(row.stops, wanted.start), len(row.starts)):
        if row.starts[i] >= wanted.stop:
            break
        if start < row.starts[i]:
            yield OffsetRange(start, row.starts[i])
        start = max(start, row.stops[i])
    if start < wanted.stop:
        yield OffsetRange(start, wanted.stop)


def _insert(row: _Row, free: OffsetRange, number: int) -> None:
    """Insert a range that touches no other, merged with neighbours of the same slot."""
    at = bisect_left(row.starts, free.start)
    start, stop, first, after = free.start, free.stop, at, at
    if at > 0 and row.stops[at - 1] == free.start and row.slots[at - 1] == number:
        start, first = row.starts[at - 1], at - 1
    if at < len(row.starts) and row.starts[at] == free.stop and row.slots[at] == number:
        stop, after = row.stops[at], at + 1
    row.starts[first:after] = [start]
    row.stops[first:after] = [stop]
    row.slots[first:after] = [number]
