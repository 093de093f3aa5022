"""What a poll brought for one partition, made into a range: nothing of the client's order is believed (S1, S2).

Clients have handed the same offset out twice in one poll (seen after incremental assignments). Taken as it came, the second copy
would have its effect again: both lie in one claim. And a record behind a later one would be inside a range that was told to be
a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_kafka_exactly.protocol.record import RawRecord, strictly_growing

End = tuple[int, int]
"""An end of the partition that was reported: behind how many records of the poll, and at which offset."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The range goes from the position to `stop`."""

    records: tuple[RawRecord, ...]
    stop: int
    at_end: bool
    surplus: int = 0
    """Records that were handed out again, or that are below the position: dropped."""


def take(position: int, records: Sequence[RawRecord], ends: Sequence[End]) -> Taken | None:
    """Records at or above the position, each once. None when the client went back to an offset that it had passed over:
    what it passed over is then no gap, and all of it must be fetched again from the position."""
    if _in_order(position, records, ends):
        return _told(position, tuple(records), len(records), ends)
    kept: list[RawRecord] = []
    seen: set[int] = set()
    passed = position
    waiting = list(ends)
    for count, record in enumerate(records):
        while waiting and waiting[0][0] <= count:
            passed = max(passed, waiting.pop(0)[1])
        if record.offset >= passed:
            kept.append(record)
            seen.add(record.offset)
            passed = record.offset + 1
        elif record.offset >= position and record.offset not in seen:
            return None
    return _told(position, tuple(kept), len(records), ends)


def _in_order(position: int, records: Sequence[RawRecord], ends: Sequence[End]) -> bool:
    if records and (records[0].offset < position or not strictly_growing(records)):
        return False
    return all(count == len(records) or records[count].offset >= offset for count, offset in ends)


def _told(position: int, kept: tuple[RawRecord, ...], came: int, ends: Sequence[End]) -> Taken:
    """An end below what was read is an old one. Only an end behind the last record is one to believe in."""
    read = kept[-1].offset + 1 if kept else position
    stop = max([read, *(offset for _, offset in ends)])
    at_end = bool(ends) and ends[-1][0] == came and ends[-1][1] >= stop
    return Taken(kept, stop, at_end, came - len(kept))
