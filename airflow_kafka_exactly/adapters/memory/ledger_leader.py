"""The ledger in memory, as the leader uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_kafka_exactly.adapters.memory import ledger_rules as rules
from airflow_kafka_exactly.adapters.memory.ledger_state import LedgerState, OrphanRow, PlaceRow
from airflow_kafka_exactly.ports import KnownIds, OverdueLife
from airflow_kafka_exactly.protocol.claims import DoubtState, Life, OrphanCommit, OrphanState
from airflow_kafka_exactly.protocol.judging import judge_offsets
from airflow_kafka_exactly.protocol.record import LAST_OFFSET, OffsetRange, Partition
from airflow_kafka_exactly.protocol.storable import storable
from airflow_kafka_exactly.protocol.votes import Fact, Offsets


class MemoryLeaderLedger:
    """`ports.LeaderLedger`."""

    def __init__(self, state: LedgerState) -> None:
        self._state = state

    def raise_epoch(self, leader: str) -> int:
        with self._state.lock:
            self._state.epoch += 1
            self._state.leader = storable(leader)
            self._state.note("epoch", self._state.epoch, "raised", self._state.leader)
            return self._state.epoch

    def groups(self) -> Sequence[str]:
        with self._state.lock:
            places = {place.group_id for place in self._state.places.values()}
            return sorted(places | {life.group_id for life in self._state.lives})

    def kafka_connection(self, group_id: str) -> str:
        with self._state.lock:
            named = [
                row.asked.kafka_connection
                for row in self._state.lives.values()
                if row.life.group_id == group_id
            ]
            return next((name for name in reversed(named) if name), "")

    def load(self, group_id: str) -> KnownIds:
        with self._state.lock:
            places = self._state.group_places(group_id)
            ranges = []
            for place in places:
                # What the frontier has passed is settled, and its range may be a wide gap of the log.
                ranges += [
                    (place.partition, OffsetRange(max(c.start, place.frontier), c.stop))
                    for c in place.claims
                    if c.stop > place.frontier
                ]
                ranges += [
                    (place.partition, OffsetRange(d.start, d.stop)) for d in place.doubts if not d.closed
                ]
                if place.committed < place.frontier:
                    ranges.append((place.partition, OffsetRange(place.committed, place.frontier)))
            return KnownIds(places[-1].cluster_id if places else "", ranges)

    def facts(self, group_id: str, partition: Partition, offsets: Offsets) -> Sequence[Fact]:
        with self._state.lock:
            place = self._state.place(group_id, partition)
            if place is None:
                return judge_offsets(offsets, ())
            ranges = [(Fact.SETTLED, 0, place.frontier)]
            ranges += [(Fact.SETTLED, c.start, c.settled_to) for c in place.claims]
            ranges += [(Fact.SETTLED, d.start, d.stop) for d in place.doubts if d.closed]
            ranges += [(Fact.CLAIMED, c.applied, c.stop) for c in place.claims if not c.settled]
            ranges += [(Fact.DOUBTED, d.start, d.stop) for d in place.doubts if not d.closed]
            return judge_offsets(offsets, ranges)

    def progress(self, group_id: str) -> Mapping[Partition, int]:
        with self._state.lock:
            return {p.partition: p.frontier for p in self._state.group_places(group_id)}

    def released_count(self, group_id: str) -> int:
        with self._state.lock:
            doubts = (d for p in self._state.group_places(group_id) for d in p.doubts)
            return sum(d.state is DoubtState.RELEASED and d.durable for d in doubts)

    def over(self, lives: Sequence[Life]) -> Sequence[Life]:
        with self._state.lock:
            return [life for life in lives if life in self._state.lives and self._state.lives[life].over]

    def overdue(self) -> Sequence[OverdueLife]:
        with self._state.lock:
            now = self._state.clock.now()
            rows = [r for r in self._state.lives.values() if not r.over and r.lease_until < now]
            return [
                OverdueLife(r.life, now - r.lease_until) for r in sorted(rows, key=lambda r: r.lease_until)
            ]

    def fence(self, epoch: int, life: Life) -> bool:
        state = self._state
        with state.lock:
            state.require_epoch(epoch)
            row = state.lives.get(life)
            if row is None or row.over or row.lease_until >= state.clock.now():
                return False
            claims = list(state.claims_of(row))
            row.state, row.ended_at = "fenced", state.clock.now()
            state.note("life", life.incarnation, "fenced", f"epoch {epoch}")
            for place, claim in claims:
                rules.fence_claim(state, place, claim)
            for place, _ in claims:
                rules.fold(place)
            return True

    def sweep_orphans(self, epoch: int) -> Sequence[OrphanCommit]:
        state = self._state
        with state.lock:
            state.require_epoch(epoch)
            now = state.clock.now()
            for place in state.places.values():
                last = place.last_life
                if last is None or last.over or (last.state == "superseded" and last.lease_until < now):
                    write_orphan(state, place, place.frontier, "the life that settled it is over")
            return [
                _orphan(p, o) for p in state.places.values() for o in p.orphans if o.state is OrphanState.OPEN
            ]

    def read_back(
        self, epoch: int, group_id: str, offsets: Mapping[Partition, int]
    ) -> Sequence[OrphanCommit]:
        state = self._state
        with state.lock:
            state.require_epoch(epoch)
            reopened = []
            for partition, offset in offsets.items():
                place = state.place(group_id, partition)
                if place is None:
                    continue
                place.committed = offset
                for row in place.orphans:
                    if row.state is not OrphanState.OPEN and row.stop > offset:
                        row.state, row.drained_by = OrphanState.OPEN, None
                        state.note("orphan", row.orphan_id, "open again", f"epoch {epoch}")
                        reopened.append(_orphan(place, row))
            return reopened

    def without_payload(self, group_id: str) -> Sequence[Partition]:
        with self._state.lock:
            return [
                place.partition
                for place in self._state.group_places(group_id)
                if any(not d.closed and not d.durable for d in place.doubts)
            ]

    def close_lost(self, epoch: int, group_id: str, partitions: Sequence[Partition], reason: str) -> int:
        state = self._state
        with state.lock:
            state.require_epoch(epoch)
            return sum(
                rules.close_lost(state, place, LAST_OFFSET, f"epoch {epoch}", reason)
                for place in state.group_places(group_id)
                if place.partition in partitions
            )

    def close_orphan(self, epoch: int, orphan_id: int, state: OrphanState) -> bool:
        with self._state.lock:
            self._state.require_epoch(epoch)
            for place in self._state.places.values():
                for row in place.orphans:
                    if row.orphan_id == orphan_id and row.state is OrphanState.OPEN:
                        return self._close(place, row, state, epoch)
            return False

    def _close(self, place: PlaceRow, row: OrphanRow, state: OrphanState, epoch: int) -> bool:
        if state is OrphanState.SUPERSEDED and row.stop > place.committed:
            place.committed = place.frontier  # its topic was deleted: no offset will ever be read back
        if row.stop > place.committed:
            return False  # drained when the offset read back says so, never when it was only altered
        row.state, row.drained_by = state, f"epoch {epoch}"
        self._state.note("orphan", row.orphan_id, state, f"epoch {epoch}")
        return True


def write_orphan(state: LedgerState, place: PlaceRow, stop: int, reason: str) -> bool:
    """What is settled above the last known offset, and not in an open row yet (S8)."""
    start = max([place.committed, *(o.stop for o in place.orphans if o.state is OrphanState.OPEN)])
    if start >= stop:
        return False
    place.orphans.append(OrphanRow(next(state.numbers), start, stop, reason))
    return True


def close_known(state: LedgerState, place: PlaceRow, how: OrphanState, by: str) -> None:
    for row in place.orphans:
        if row.state is OrphanState.OPEN and row.stop <= place.committed:
            row.state, row.drained_by = how, by
            state.note("orphan", row.orphan_id, how, by)


def _orphan(place: PlaceRow, row: OrphanRow) -> OrphanCommit:
    return OrphanCommit(
        orphan_id=row.orphan_id,
        group_id=place.group_id,
        partition=place.partition,
        range=OffsetRange(row.start, row.stop),
        reason=row.reason,
        state=row.state,
    )
