"""Polls Kafka in a thread of its own, that goes on while user code runs, so that `max.poll.interval.ms` cannot evict a busy
member (case 27); holds what was polled until it is voted on, and gives partitions away in order (section 4.8).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_kafka_exactly.errors import Fenced
from airflow_kafka_exactly.ports import Consumers, GroupConsumer, Polled, never
from airflow_kafka_exactly.protocol.claims import Opening
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch, held_bytes
from airflow_kafka_exactly.protocol.unreadable import readable_together
from airflow_kafka_exactly.runtime.commits import OffsetCommitter
from airflow_kafka_exactly.runtime.shared import Shared

log = logging.getLogger(__name__)
POLL_S = 0.1
ROOM_S = 0.2
"""So long a full hand is waited for before partitions are paused: Kafka's client then throws away what it has fetched ahead and
may wait for `fetch.wait.max.ms` before it fetches again (measured: 0.7 s for each pause). A fast function makes room sooner."""


@dataclass(frozen=True, slots=True)
class HeldPart:
    """A part of a batch, and in which tenure of its partition it was polled: after a loss it is worth nothing."""

    batch: PartitionBatch
    tenure: int


class Hand:
    """What this member holds: its partitions, and the records it has polled and not yet voted on. Thread-safe."""

    def __init__(self, prefetch_max_bytes: int) -> None:
        self.changed = threading.Condition()
        self._limit_bytes, self._bytes = prefetch_max_bytes, 0
        self._tenures: dict[Partition, int] = {}
        self._live: set[int] = set()
        """Tenures of which a record may still begin."""
        self._next_tenure = 1
        self._pending: dict[Partition, deque[PartitionBatch]] = {}
        self._leaving: set[Partition] = set()
        self._busy: dict[Partition, int] = {}
        self._at_end: set[Partition] = set()
        self._waiting: set[Partition] = set()
        """Nothing of these is voted on for now: a record that was taken before has to be tried first."""

    # -- the polling thread

    def assigned(self, partitions: Iterable[Partition]) -> None:
        with self.changed:
            for partition in partitions:
                self._drop(partition)
                self._tenures[partition] = self._next_tenure
                self._live.add(self._next_tenure)
                self._next_tenure += 1

    def leaving(self, partitions: Iterable[Partition]) -> None:
        """From here on nothing more of these partitions is taken up, and what is not begun is given back."""
        with self.changed:
            for partition in partitions:
                self._leaving.add(partition)
                self._live.discard(self._tenures.get(partition, 0))
                self._discard_pending(partition)

    def await_idle(self, partitions: Sequence[Partition], timeout_s: float) -> bool:
        """Wait until no claim of these partitions is in hand."""
        with self.changed:
            return self.changed.wait_for(lambda: not any(self._busy.get(p) for p in partitions), timeout_s)

    def await_room(self, timeout_s: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: not self.full, timeout_s)

    def gone(self, partitions: Iterable[Partition]) -> None:
        with self.changed:
            for partition in partitions:
                self._drop(partition)

    def polled(self, polled: Polled) -> None:
        with self.changed:
            for batch in polled.batches:
                if batch.partition in self._tenures and batch.partition not in self._leaving:
                    self._pending.setdefault(batch.partition, deque()).append(batch)
                    self._bytes += held_bytes(batch.records)
                    if batch.records:
                        self._at_end.discard(batch.partition)
            self._at_end |= polled.at_end & self._tenures.keys()
            self.changed.notify_all()

    @property
    def full(self) -> bool:
        return self._bytes > self._limit_bytes

    @property
    def roomy(self) -> bool:
        return self._bytes * 2 <= self._limit_bytes

    # -- the voting thread

    def take(self, max_records: int) -> tuple[HeldPart, ...]:
        """What is pending, at most `max_records` of it, one part for each partition."""
        with self.changed:
            parts, room = [], max_records
            for partition, queue in self._pending.items():
                if room <= 0:
                    break
                if partition in self._waiting:
                    continue
                taken = self._take_from(queue, room)
                if taken is not None:
                    room -= len(taken.records)
                    self._bytes -= held_bytes(taken.records)
                    parts.append(HeldPart(taken, self._tenures[partition]))
            for part in parts:  # the next batch begins with another partition
                self._pending[part.batch.partition] = self._pending.pop(part.batch.partition)
            self.changed.notify_all()
            return tuple(parts)

    def pending_records(self) -> int:
        """That may be taken."""
        with self.changed:
            return sum(
                len(b.records) for p, queue in self._pending.items() if p not in self._waiting for b in queue
            )

    def at_end(self) -> bool:
        """Every assigned partition was polled up to its end."""
        with self.changed:
            return bool(self._tenures) and self._tenures.keys() <= self._at_end

    def has_pending(self) -> bool:
        with self.changed:
            return any(queue for p, queue in self._pending.items() if p not in self._waiting)

    # -- the member's own thread

    def hold(self, parts: Iterable[HeldPart]) -> tuple[bool, ...]:
        """Which parts are still ours to claim; those count as in hand until `release`."""
        with self.changed:
            ours = tuple(self.ours(p.tenure) for p in parts)
            for part, mine in zip(parts, ours, strict=True):
                if mine:
                    self._busy[part.batch.partition] = self._busy.get(part.batch.partition, 0) + 1
            return ours

    def release(self, partition: Partition) -> None:
        with self.changed:
            self._busy[partition] -= 1
            self.changed.notify_all()

    def wait(self, partition: Partition, waits: bool) -> None:
        """Whether a record of it has to be tried before more of it is voted on."""
        with self.changed:
            (self._waiting.add if waits else self._waiting.discard)(partition)
            self.changed.notify_all()

    def ours(self, tenure: int) -> bool:
        """Asked before each record: it must cost next to nothing, and needs no lock."""
        return tenure in self._live

    def caught_up(self) -> bool:
        """Something is assigned, its ends were reached, and nothing of it is pending."""
        with self.changed:
            return self.at_end() and not self._leaving and not any(self._pending.values())

    def partitions(self) -> frozenset[Partition]:
        with self.changed:
            return frozenset(self._tenures)

    # -- under the lock

    def _drop(self, partition: Partition) -> None:
        self._discard_pending(partition)
        self._live.discard(self._tenures.pop(partition, 0))
        self._leaving.discard(partition)
        self._at_end.discard(partition)
        self.changed.notify_all()

    def _discard_pending(self, partition: Partition) -> None:
        for batch in self._pending.pop(partition, ()):
            self._bytes -= held_bytes(batch.records)

    @staticmethod
    def _take_from(queue: deque[PartitionBatch], room: int) -> PartitionBatch | None:
        """The head of the queue, joined with what follows it without a hole, cut at `room` records."""
        if not queue:
            return None
        first = queue[0]
        records, stop = list(first.records), first.range.stop
        queue.popleft()
        while queue and len(records) < room:
            following = queue.popleft()
            assert following.range.start == stop, "ranges of one tenure leave no hole (S2)"
            records.extend(following.records)
            stop = following.range.stop
        room = min(room, readable_together(records))
        if len(records) > room:
            rest = tuple(records[room:])
            cut = records[room - 1].offset + 1
            queue.appendleft(PartitionBatch(first.partition, OffsetRange(cut, stop), rest))
            records, stop = records[:room], cut
        return PartitionBatch(first.partition, OffsetRange(first.range.start, stop), tuple(records))


class Poller:
    """The polling thread, and the consumer's `RebalanceListener`."""

    def __init__(
        self,
        consumers: Consumers,
        committer: OffsetCommitter,
        shared: Shared,
        forget: Callable[[Sequence[Partition]], None],
    ) -> None:
        """`forget` tells the leader that a partition is given away."""
        self._consumers, self._committer, self._of = consumers, committer, shared
        self._forget = forget
        self.hand = Hand(shared.settings.kafka.prefetch_max_bytes)

    def run(self, enough: Callable[[], bool] = never) -> None:
        """Consume, until stopped or `enough` says so, which is asked after each poll. A member that was fenced in Kafka but is
        current in the ledger joins again (section 4.2)."""
        while not self._of.background.stopping.is_set():
            try:
                self._consume(enough)
                return
            except Fenced as fenced:
                self._lose_everything()
                self._rejoin_or_leave(fenced)

    def _consume(self, enough: Callable[[], bool]) -> None:
        """Kafka being away for a while costs nothing: a poll that failed has skipped nothing."""
        settings, persist = self._of.settings, self._of.background.persist
        consumer = persist(lambda: self._consumers.open(settings.slot, self), "joining the consumer group")
        try:
            self._committer.use(consumer)
            while not self._of.background.stopping.is_set():
                self._throttle(consumer)
                polled = persist(lambda: consumer.poll(settings.max_batch_records, POLL_S), "polling")
                if polled.lost:
                    self._record_lost(polled.lost)
                self.hand.polled(polled)
                self._committer.commit_when_due()
                if enough():
                    break
            self._committer.commit()
        finally:
            self._committer.use(None)
            consumer.close()

    def _record_lost(self, lost: Mapping[Partition, OffsetRange]) -> None:
        """Before the gap is in hand, and so before anything settles it (L2)."""
        new = self._of.background.persist(
            lambda: self._of.ledger.record_lost(self._of.life, lost), "recording lost offsets"
        )
        self._of.summary.count("offsets_lost", new)

    def _throttle(self, consumer: GroupConsumer) -> None:
        if self.hand.roomy:
            consumer.resume()
        elif not self.hand.await_room(ROOM_S):
            consumer.pause()

    def _rejoin_or_leave(self, fenced: Fenced) -> None:
        life = self._of.life
        current = self._of.background.persist(
            lambda: self._of.ledger.current_incarnation(life.group_id, life.slot), "reading the incarnation"
        )
        if current != life.incarnation:
            raise fenced
        log.warning("%s was fenced in Kafka but is the current life of its slot: joining again", life.slot)
        self._of.background.pause(1.0)

    def _lose_everything(self) -> None:
        self.lost(tuple(self.hand.partitions()))

    # -- RebalanceListener: called from inside poll()

    def assigned(self, openings: Sequence[Opening]) -> Mapping[Partition, int]:
        life = self._of.life
        starts = self._of.background.persist(
            lambda: self._of.ledger.open_partitions(life, self._of.cluster_id, openings), "opening partitions"
        )
        self.hand.assigned(starts)
        self._committer.assigned(openings, starts)
        return starts

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Drain first, fence second: let the record in hand end, then commit offsets while still the owner."""
        self.hand.leaving(partitions)
        if not self.hand.await_idle(partitions, self._of.settings.revoke_budget_s):
            log.warning(
                "a record of %s still runs after %.0f s", partitions, self._of.settings.revoke_budget_s
            )
        self._committer.final(partitions)
        self.hand.gone(partitions)
        self._forget(partitions)  # before the next owner can ask

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Not the owner any more: no offset of these partitions may leave the process (case 29)."""
        self._committer.lost(partitions)
        self.hand.gone(partitions)
        self._forget(partitions)
