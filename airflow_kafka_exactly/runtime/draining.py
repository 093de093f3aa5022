"""Sweeps and drains orphan commits, one group after the other, in a thread of its own: Kafka may be slow or away, and nothing
else of a leader may wait for that."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from airflow_kafka_exactly.errors import TopicMissing
from airflow_kafka_exactly.ports import KafkaAdmin
from airflow_kafka_exactly.protocol import leader_events as le
from airflow_kafka_exactly.protocol.claims import OrphanCommit
from airflow_kafka_exactly.protocol.orphans import Alter, Close, Drain, GroupView, Tell, Wait, made_again
from airflow_kafka_exactly.protocol.record import Partition
from airflow_kafka_exactly.protocol.votes import Notice, NoticeKind
from airflow_kafka_exactly.runtime.each import each
from airflow_kafka_exactly.runtime.leading import Leading
from airflow_kafka_exactly.runtime.world import World

log = logging.getLogger(__name__)

READ_BACK_EVERY_S = 10.0
"""Groups without open orphans are read back so often: a lower offset opens drained rows again."""

REFUSED_FOR_S = 5.0
"""So long a group whose alter Kafka refused counts as one with members, who are told instead."""

DELETED = "its topic was deleted before its payload was stored"

Admins = Callable[[str], KafkaAdmin | None]


class Draining:
    """One reign's. `StaleEpoch` and `NotLeading` end it; `Unavailable` of the ledger is for the caller to survive."""

    def __init__(self, world: World, leading: Leading, admins: Admins) -> None:
        self._world, self._leading, self._admins = world, leading, admins
        self._drains: dict[str, Drain] = {}
        self._read_at: dict[str, float] = {}
        self._refused_at: dict[str, float] = {}
        self._behind: dict[str, Mapping[Partition, int]] = {}
        self.reasons: Mapping[str, str] = {}
        """Why a group's orphan commits still wait, for people."""

    def round(self) -> None:
        """Sweep, then look at each group that has something open or is due to be read back."""
        self._leading.must_lead()
        by_group: dict[str, list[OrphanCommit]] = defaultdict(list)
        for orphan in self._world.ledger.sweep_orphans(self._leading.epoch):
            by_group[orphan.group_id].append(orphan)
        reasons: dict[str, str] = {}

        def drain(group: str) -> None:
            reason = self._drain_group(group, by_group.get(group, []))
            if reason:
                reasons[group] = reason

        groups = sorted({*by_group, *self._due()})
        self.reasons = each(groups, drain, "draining", self._world.ledger.overdue) | reasons

    def _due(self) -> Iterable[str]:
        now = self._world.clock.now()
        for group in self._leading.groups():
            if now - self._read_at.get(group, float("-inf")) >= READ_BACK_EVERY_S:
                yield group

    def _drain_group(self, group: str, orphans: Sequence[OrphanCommit]) -> str:
        """Returns why something still waits; empty when nothing does."""
        self._read_at[group] = self._world.clock.now()
        admin = self._admins(group)
        if admin is None:
            return self._without_kafka(group, orphans)
        self._close_lost(group, admin)
        open_now = {orphan.orphan_id: orphan for orphan in orphans}
        reason = ""
        # An alter is followed by one more look: only what is read back counts, and members are told when it was refused.
        for _ in range(2):
            committed = self._read_back(group, admin, open_now)
            if not open_now:
                self._remind(group, committed)
                return ""
            tried, reason = self._carry_out(group, admin, self._view(group, admin, committed), open_now)
            if not tried:
                break
        return reason if open_now else ""

    def _close_lost(self, group: str, admin: KafkaAdmin) -> None:
        """Doubts that wait for a payload from a topic that was deleted: it never comes (L1), and nobody knows of their effects,
        so they are counted with that reason (L2)."""
        waiting = self._world.ledger.without_payload(group)
        if not waiting:
            return
        topic_ids = _topic_ids(admin, {partition.topic for partition in waiting})
        gone = [partition for partition in waiting if made_again(partition, topic_ids)]
        if not gone:
            return
        self._leading.must_lead()
        closed = self._world.ledger.close_lost(self._leading.epoch, group, gone, DELETED)
        if closed:
            log.warning(
                "%d doubts of group %s are closed as lost: %s (%s)",
                closed,
                group,
                DELETED,
                ", ".join(str(partition) for partition in gone),
            )

    def _remind(self, group: str, committed: Mapping[Partition, int]) -> None:
        """An offset commit that Kafka executed late has moved an offset backward, and the member that commits here believes
        that it is further: twice the same offset below the frontier, a read-back apart, is no commit under way (S8)."""
        frontiers = self._world.ledger.progress(group)
        behind = {p: offset for p, offset in committed.items() if offset < frontiers.get(p, 0)}
        stuck = [p for p, offset in behind.items() if self._behind.get(group, {}).get(p) == offset]
        self._behind[group] = behind
        if stuck:
            self._tell(group, sorted(stuck))

    def _read_back(
        self, group: str, admin: KafkaAdmin, open_now: dict[int, OrphanCommit]
    ) -> Mapping[Partition, int]:
        """What Kafka says is written down first; ids of rows that are open again enter the filter with them (S6)."""
        ledger = self._world.ledger
        committed = admin.committed(group, list(ledger.progress(group)))
        reopened = ledger.read_back(self._leading.epoch, group, committed)
        if reopened:
            self._leading.step(le.Reopened(group, [(o.partition, o.range) for o in reopened]))
            open_now.update((orphan.orphan_id, orphan) for orphan in reopened)
        return committed

    def _view(self, group: str, admin: KafkaAdmin, committed: Mapping[Partition, int]) -> GroupView:
        """The frontiers last: an alter may not pass them (S2). A group counts as empty until Kafka has refused its alter: the
        question whether it is ends the process when its coordinator does not answer (librdkafka issue 4605)."""
        refused_s = self._world.clock.now() - self._refused_at.get(group, float("-inf"))
        topic_ids = _topic_ids(admin, {partition.topic for partition in self._world.ledger.progress(group)})
        frontiers = self._world.ledger.progress(group)
        return GroupView(
            committed=committed, topic_ids=topic_ids, empty=refused_s >= REFUSED_FOR_S, frontiers=frontiers
        )

    def _carry_out(
        self, group: str, admin: KafkaAdmin, view: GroupView, open_now: dict[int, OrphanCommit]
    ) -> tuple[bool, str]:
        """Whether an alter was tried, and why anything still waits."""
        drain = self._drains.setdefault(group, Drain(group))
        tried, reasons = False, []
        for action in drain.plan(tuple(open_now.values()), view, self._world.clock.now()):
            self._leading.must_lead()
            match action:
                case Close(orphan=orphan, state=state):
                    self._world.ledger.close_orphan(self._leading.epoch, orphan.orphan_id, state)
                    open_now.pop(orphan.orphan_id, None)
                case Tell(partitions=partitions):
                    self._tell(group, partitions)
                case Alter(offsets=offsets):
                    answers, tried = admin.alter(group, offsets), True
                    if not any(answers.values()):
                        self._refused_at[group] = self._world.clock.now()
                    reasons += [f"Kafka refused to alter {p}" for p, ok in answers.items() if not ok]
                case Wait(reason=reason):
                    reasons.append(reason)
        return tried, "; ".join(reasons) or "told the members to commit again"

    def _without_kafka(self, group: str, orphans: Sequence[OrphanCommit]) -> str:
        """Draining by alter and by reading back is left to others: a member's accepted offset commit clears the rows, and so
        does a leader that knows the group's Kafka connection."""
        if not orphans:
            return ""
        self._tell(group, sorted({orphan.partition for orphan in orphans}))
        return "this leader has no Kafka connection for the group: its members are told, nothing is altered or read back"

    def _tell(self, group: str, partitions: Sequence[Partition]) -> None:
        self._world.server.notify(Notice(group, NoticeKind.COMMIT_AGAIN, tuple(partitions)))


def _topic_ids(admin: KafkaAdmin, names: Iterable[str]) -> Mapping[str, str]:
    """Of the topics that exist. Asked one by one, because one that is gone fails the whole question."""
    found = {}
    for name in names:
        try:
            found.update({topic: facts.topic_id for topic, facts in admin.topics([name]).items()})
        except TopicMissing:
            log.info("topic %s does not exist any more", name)
    return found
