"""How an open orphan commit is drained: settled records that are not known to be below the group's offset in Kafka (S8).

What counts as known is the offset last *read back*, so closing is always its consequence and never that of something we sent:

* the offset read back has reached the range → closed; as *superseded*, or as the work of the member we told or of our alter;
* the group has members → they are told; the owner skips what is settled and commits its frontier;
* the group is empty → its offset is altered, only forward and only to the frontier that was read just before (S2). Kafka cannot
  check our epoch: a leader that was deposed meanwhile can undo this one's alter. Then the offset read back is lower, the ledger
  opens the rows again, and everything starts over; members start at max(committed, frontier), so nothing is run twice (S1).

An offset belongs to a topic *name*. When the name belongs to another topic id now, the old offsets mean nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_kafka_exactly.protocol.claims import OrphanCommit, OrphanState
from airflow_kafka_exactly.protocol.record import Partition

TELL_AGAIN_S = 5.0
"""Members are told again so often: a notice can be lost with its stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """What was read about one group, the frontiers last: an alter may not pass them."""

    committed: Mapping[Partition, int]
    """As Kafka just said; partitions without an offset are missing."""
    topic_ids: Mapping[str, str]
    """By topic name, today; topics that do not exist are missing."""
    empty: bool
    """As far as is known: until an alter of it is refused."""
    frontiers: Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class Close:
    orphan: OrphanCommit
    state: OrphanState


@dataclass(frozen=True, slots=True)
class Tell:
    """The group's members: whoever owns one of the partitions commits its frontier again."""

    group_id: str
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class Alter:
    """Of the empty group; then read back."""

    group_id: str
    offsets: Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done about it now; `reason` is for people."""

    orphan: OrphanCommit
    reason: str


Action = Close | Tell | Alter | Wait


class Drain:
    """One group's drain. It remembers only what explains a closing to people: whom we told and what we altered."""

    def __init__(self, group_id: str) -> None:
        self._group_id = group_id
        self._told: set[int] = set()
        self._altered: set[int] = set()
        self._told_at: dict[Partition, float] = {}

    def plan(self, orphans: Sequence[OrphanCommit], view: GroupView, now: float) -> tuple[Action, ...]:
        """Closings first: what is known is written down before anything new is asked for."""
        self._forget_closed(orphans)
        closings = tuple(c for c in (self._closing(orphan, view) for orphan in orphans) if c is not None)
        closed = {closing.orphan.orphan_id for closing in closings}
        left = [orphan for orphan in orphans if orphan.orphan_id not in closed]
        if not left:
            return closings
        return closings + (self._alter(left, view) if view.empty else self._tell(left, now))

    def _closing(self, orphan: OrphanCommit, view: GroupView) -> Close | None:
        if made_again(orphan.partition, view.topic_ids):
            return Close(orphan, OrphanState.SUPERSEDED)
        if view.committed.get(orphan.partition, -1) < orphan.range.stop:
            return None
        if orphan.orphan_id in self._altered:
            return Close(orphan, OrphanState.ALTERED)
        told = orphan.orphan_id in self._told
        return Close(orphan, OrphanState.MEMBER if told else OrphanState.SUPERSEDED)

    def _tell(self, orphans: Iterable[OrphanCommit], now: float) -> tuple[Action, ...]:
        due = set()
        for orphan in orphans:
            self._told.add(orphan.orphan_id)
            self._altered.discard(orphan.orphan_id)
            if now - self._told_at.get(orphan.partition, now - TELL_AGAIN_S) >= TELL_AGAIN_S:
                due.add(orphan.partition)
        self._told_at.update(dict.fromkeys(due, now))
        return (Tell(self._group_id, tuple(sorted(due))),) if due else ()

    def _alter(self, orphans: Iterable[OrphanCommit], view: GroupView) -> tuple[Action, ...]:
        offsets: dict[Partition, int] = {}
        waits: list[Action] = []
        for orphan in orphans:
            reason = _why_not_alter(orphan, view)
            if reason:
                waits.append(Wait(orphan, reason))
                continue
            self._altered.add(orphan.orphan_id)
            offsets[orphan.partition] = view.frontiers[orphan.partition]
        return (*((Alter(self._group_id, offsets),) if offsets else ()), *waits)

    def _forget_closed(self, orphans: Sequence[OrphanCommit]) -> None:
        open_ids = {orphan.orphan_id for orphan in orphans}
        partitions = {orphan.partition for orphan in orphans}
        self._told &= open_ids
        self._altered &= open_ids
        self._told_at = {p: at for p, at in self._told_at.items() if p in partitions}


def made_again(partition: Partition, topic_ids: Mapping[str, str]) -> bool:
    """The topic was deleted: its name is another topic's today. A name that nobody knows proves nothing: a broker that has just
    started may not know it yet."""
    return topic_ids.get(partition.topic, partition.topic_id) != partition.topic_id


def _why_not_alter(orphan: OrphanCommit, view: GroupView) -> str:
    """Empty when the offset may be altered to the partition's frontier."""
    partition = orphan.partition
    if partition.topic not in view.topic_ids:
        return f"topic {partition.topic!r} does not exist"
    frontier = view.frontiers.get(partition, 0)
    if frontier < orphan.range.stop:
        return f"the frontier of {partition} is {frontier}: a doubt without a payload lies below {orphan.range.stop}"
    if frontier <= view.committed.get(partition, -1):
        return (
            f"the group's offset in {partition} is already past the frontier {frontier}"  # only forward (S2)
        )
    return ""
