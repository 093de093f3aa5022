"""Commits offsets, in the polling thread. What is committed is the frontier that the ledger returned, so S2 holds by
construction; a refused offset commit becomes an orphan commit, with its reason (S8).

The polling thread, because a synchronous commit from any other thread never returns while the client polls (measured with
confluent-kafka 2.16), and because what leaves the process and what is revoked are then one sequence: after a revoke nothing of
that partition can leave it (case 29).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping

from airflow_kafka_exactly.errors import ConfigurationError
from airflow_kafka_exactly.ports import GroupConsumer
from airflow_kafka_exactly.protocol.claims import CommitCode, Opening
from airflow_kafka_exactly.protocol.record import Partition
from airflow_kafka_exactly.runtime.shared import Shared

log = logging.getLogger(__name__)
COMMIT_EVERY_S = 0.5


class OffsetCommitter:
    def __init__(self, shared: Shared) -> None:
        self._of = shared
        self._lock = threading.Lock()
        self._due_at = float("-inf")
        self._consumer: GroupConsumer | None = None
        self._wanted: dict[Partition, int] = {}
        self._known: dict[Partition, int] = {}
        self._claim_number: dict[Partition, int] = {}

    # -- the member's own thread

    def offer(
        self, frontiers: Mapping[Partition, int], claims: Mapping[Partition, int] | None = None
    ) -> None:
        """The frontiers that a ledger write returned, and the newest claim numbers."""
        with self._lock:
            for partition, frontier in frontiers.items():
                self._wanted[partition] = max(frontier, self._wanted.get(partition, 0))
            for partition, number in (claims or {}).items():
                self._claim_number[partition] = max(number, self._claim_number.get(partition, 0))

    def again(self, frontiers: Mapping[Partition, int]) -> None:
        """The leader says that orphan commits of these partitions are ours to make, up to these frontiers."""
        with self._lock:
            for partition in frontiers:
                self._known.pop(partition, None)
        self.offer(frontiers)

    # -- the polling thread

    def use(self, consumer: GroupConsumer | None) -> None:
        self._consumer = consumer

    def assigned(self, openings: Iterable[Opening], starts: Mapping[Partition, int]) -> None:
        """A frontier above the committed offset is an orphan commit that its new owner makes at once."""
        with self._lock:
            self._known.update({o.partition: o.start for o in openings if o.committed})
        self.offer(starts, {o.partition: o.claim_seen for o in openings})

    def final(self, partitions: Iterable[Partition]) -> None:
        """The last offset commit of partitions that are being revoked."""
        self._commit(frozenset(partitions))
        self.lost(partitions)

    def lost(self, partitions: Iterable[Partition]) -> None:
        """What was settled and not committed is an orphan commit from here on."""
        due = self._take(frozenset(partitions))
        with self._lock:
            for partition in partitions:
                self._wanted.pop(partition, None)
                self._known.pop(partition, None)
        if due:
            self._orphaned({p: offset for p, (offset, _) in due.items()}, "PARTITION_LOST")

    def commit_when_due(self) -> None:
        """Between two polls: at most once in `COMMIT_EVERY_S`."""
        if self._of.clock.now() >= self._due_at:
            self._due_at = self._of.clock.now() + COMMIT_EVERY_S
            self.commit()

    def commit(self) -> None:
        if self._consumer is not None:
            self._commit(self._consumer.assignment())

    def _take(self, of: frozenset[Partition]) -> dict[Partition, tuple[int, int]]:
        with self._lock:
            return {
                partition: (offset, self._claim_number.get(partition, 0))
                for partition, offset in self._wanted.items()
                if partition in of and offset > self._known.get(partition, -1)
            }

    def _commit(self, of: frozenset[Partition]) -> None:
        due = self._take(of)
        if self._consumer is None or not due:
            return
        answers = self._consumer.commit(due)
        accepted = {p: due[p][0] for p, (code, _) in answers.items() if code is CommitCode.ACCEPTED}
        if accepted:
            with self._lock:
                self._known.update(accepted)
            self._of.summary.count("offset_commits", len(accepted))
            self._of.background.persist(
                lambda: self._of.ledger.committed(self._of.life, accepted), "noting offset commits"
            )
        for partition, (code, reason) in answers.items():
            if code in (CommitCode.ORPHAN, CommitCode.FATAL):
                self._orphaned({partition: due[partition][0]}, reason)
        fatal = {str(p): reason for p, (code, reason) in answers.items() if code is CommitCode.FATAL}
        if fatal:  # any other is asked again while the partition is ours
            raise ConfigurationError(
                f"Kafka refuses the offset commits of group {self._of.life.group_id!r}: {fatal}. What is settled stays settled; "
                "correct the group's rights or the Kafka connection, then run the task again."
            )

    def _orphaned(self, offsets: Mapping[Partition, int], reason: str) -> None:
        log.warning("orphan commits (%s): %s", reason, {str(p): o for p, o in offsets.items()})
        written = self._of.background.persist(
            lambda: self._of.ledger.refused(self._of.life, offsets, reason), "noting orphan commits"
        )
        self._of.summary.count("orphan_commits", written)
