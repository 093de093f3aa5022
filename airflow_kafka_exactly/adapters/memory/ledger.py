"""The ledger within one process: the four ports over one `LedgerState`, deterministic, on an injected clock.

It keeps the same rules as the PostgreSQL adapter and passes the same contract suite; what it cannot show is a race between
transactions (there is one lock) or a lost answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from airflow_kafka_exactly.adapters.memory import ledger_rules as rules
from airflow_kafka_exactly.adapters.memory.ledger_arbiter import arbitrate, redo_of
from airflow_kafka_exactly.adapters.memory.ledger_cursor import MemoryCursor
from airflow_kafka_exactly.adapters.memory.ledger_evidence import MemoryEvidenceLedger
from airflow_kafka_exactly.adapters.memory.ledger_leader import MemoryLeaderLedger, close_known, write_orphan
from airflow_kafka_exactly.adapters.memory.ledger_owners import move_group, own_group, require_owner
from airflow_kafka_exactly.adapters.memory.ledger_report import MemoryReportLedger
from airflow_kafka_exactly.adapters.memory.ledger_state import (
    ClaimRow,
    DoubtRow,
    LedgerState,
    LetterRow,
    LifeRow,
    LostRow,
    PlaceRow,
)
from airflow_kafka_exactly.errors import (
    AlreadyApplied,
    Fenced,
    LedgerBehind,
    SlotBusy,
)
from airflow_kafka_exactly.ports import Clock
from airflow_kafka_exactly.protocol.claims import (
    Claim,
    ClaimRequest,
    ClaimResult,
    DoubtKind,
    DoubtState,
    Failing,
    Life,
    Mark,
    Opening,
    OpenLife,
    OrphanState,
    Outcome,
    Redo,
)
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, RawRecord
from airflow_kafka_exactly.protocol.storable import storable


class MemoryMemberLedger:
    """`ports.MemberLedger`."""

    def __init__(self, state: LedgerState) -> None:
        self._state = state
        self.effects: list[tuple[Any, Any]] = []
        """What was executed in effects' transactions that committed: (statement, parameters)."""

    # -- lives ---------------------------------------------------------------------------------------------------------

    def open_life(self, request: OpenLife) -> Life:
        state = self._state
        with state.lock:
            now = state.clock.now()
            require_owner(state, request)
            mine = [
                r
                for life, r in state.lives.items()
                if (life.group_id, life.slot) == (request.group_id, request.slot)
            ]
            for old in (r for r in mine if r.state == "current"):
                if old.asked.owner != request.owner and old.lease_until > now:
                    raise SlotBusy(request.slot, old.asked.owner, old.lease_until - now)
                old.state = "superseded"
            own_group(state, request)
            life = Life(group_id=request.group_id, slot=request.slot, incarnation=len(mine) + 1)
            state.lives[life] = LifeRow(life, request, now + request.lease_s)
            state.note("life", life.incarnation, "opened", request.process)
            return life

    def move_group(self, group_id: str, dag_id: str, task_id: str, by: str) -> tuple[str, str] | None:
        with self._state.lock:
            return move_group(self._state, group_id, dag_id, task_id, by)

    def renew(self, life: Life, lease_s: float) -> None:
        with self._state.lock:
            self._state.require_current(life).lease_until = self._state.clock.now() + lease_s

    def close_life(self, life: Life) -> None:
        state = self._state
        with state.lock:
            row = state.lives.get(life)
            if row is None or row.over:
                return
            places = []
            for place, claim in list(state.claims_of(row)):
                rules.end_claim(state, place, claim, claim.started)
                places.append(place)
            for place in places:
                rules.fold(place)
            windows = any(
                True for _ in state.claims_of(row)
            )  # the fence's, and only after this life's lease (H2)
            row.state, row.ended_at = ("superseded", None) if windows else ("closed", state.clock.now())
            state.note("life", life.incarnation, row.state, row)

    def current_incarnation(self, group_id: str, slot: str) -> int:
        with self._state.lock:
            mine = [n.incarnation for n in self._state.lives if (n.group_id, n.slot) == (group_id, slot)]
            return max(mine, default=0)

    def last_owner(self, group_id: str, slot: str) -> str:
        with self._state.lock:
            mine = [
                row
                for row in self._state.lives.values()
                if (row.life.group_id, row.life.slot) == (group_id, slot)
            ]
            return max(mine, key=lambda row: row.life.incarnation).asked.owner if mine else ""

    def open_partitions(
        self, life: Life, cluster_id: str, openings: Sequence[Opening]
    ) -> Mapping[Partition, int]:
        with self._state.lock:
            row = self._state.require_current(life)
            checked = [(o, *self._known(life, cluster_id, o)) for o in openings]
            return {o.partition: self._open(row, cluster_id, o, place, start) for o, place, start in checked}

    def _known(self, life: Life, cluster_id: str, opening: Opening) -> tuple[PlaceRow | None, int | None]:
        """The partition's row, and the group's offset if it says anything about this topic."""
        partition, start = opening.partition, opening.start if opening.committed else None
        place = self._state.places.get((life.group_id, cluster_id, partition.topic_id, partition.number))
        if start is None or not opening.claim_seen:
            return place, start
        if place is None and any(
            (p.partition.topic, p.partition.number) == (partition.topic, partition.number)
            for p in self._state.group_places(life.group_id)
        ):
            return None, None  # of a deleted topic of the same name (H11)
        if place is None or start > place.frontier or opening.claim_seen > self._state.newest_claim:
            raise LedgerBehind(
                f"the offset {start} of {partition} was committed below claim {opening.claim_seen}, which was never granted here"
            )
        return place, start

    def _open(
        self, row: LifeRow, cluster_id: str, opening: Opening, place: PlaceRow | None, start: int | None
    ) -> int:
        partition = opening.partition
        if place is None:
            begin = 0 if start is None and opening.committed else opening.start
            key = (row.life.group_id, cluster_id, partition.topic_id, partition.number)
            self._state.places[key] = PlaceRow(row.life.group_id, cluster_id, partition, begin, begin, row)
            return begin
        place.last_life = row
        if start is None:
            return place.frontier
        if start > place.frontier and not any(
            c.start < start and c.stop > place.frontier for c in place.claims
        ):
            place.frontier = start
            # What was in question below it and has no payload is skipped with the rest: Kafka does not deliver it again.
            rules.close_lost(self._state, place, start, str(row), "skipped by a reset offset")
        place.committed = start
        return max(start, place.frontier)

    # -- claims --------------------------------------------------------------------------------------------------------

    def claim(self, request: ClaimRequest) -> ClaimResult:
        with self._state.lock:
            row = self._state.require_current(request.life)
            if request.step > row.step:
                self._state.require_epoch(request.epoch)
            return arbitrate(self._state, row, request)

    def mark(self, life: Life, marks: Sequence[Mark]) -> Mapping[Partition, int]:
        state, missing = self._state, False
        frontiers: dict[Partition, int] = {}
        with state.lock:
            for mark in marks:
                found = state.open_claim(life, mark.claim_id)
                if found is None:
                    missing = True
                    continue
                rules.write_mark(state, *found, mark.started, mark.applied)
                frontiers[found[0].partition] = rules.fold(found[0])
            if missing and state.is_over(life):
                raise Fenced(f"claims of life {life.incarnation} of slot {life.slot} were fenced")
            if missing:
                frontiers |= {p.partition: p.frontier for p in self._assigned(life)}
            return frontiers

    def _assigned(self, life: Life) -> Iterator[PlaceRow]:
        return (
            p for p in self._state.group_places(life.group_id) if p.last_life and p.last_life.life == life
        )

    def give_back(self, life: Life, claim_id: int, start: int, failing: Sequence[Failing] = ()) -> None:
        with self._state.lock:
            found = self._state.open_claim(life, claim_id)
            if found:
                rules.note_failing(self._state, found[0], failing)
                rules.end_claim(self._state, *found, start)
                rules.fold(found[0])

    def failing(self, claim: Claim) -> Sequence[Failing]:
        with self._state.lock:
            found, now = self._state.open_claim(claim.life, claim.claim_id), self._state.clock.now()
            known = sorted(found[0].failing.items()) if found else []
            return [
                Failing(o, stop, n, now - at)
                for o, (stop, n, at) in known
                if found and found[1].start <= o < found[1].stop
            ]

    def claim_released(self, life: Life, epoch: int, step: int, limit: int) -> Sequence[Redo]:
        state = self._state
        with state.lock:
            row = state.require_current(life)
            if step <= row.step:
                return [redo_of(p, c) for p, c in state.claims_of(row) if c.doubt and c.step == step]
            state.require_epoch(epoch)
            row.step = step
            released = [
                d
                for place in state.group_places(life.group_id)
                for d in place.doubts
                if d.state is DoubtState.RELEASED and d.durable
            ]
            released.sort(key=lambda d: (d.start, d.place.partition))
            return [redo_of(d.place, self._claim_doubt(row, step, d)) for d in released[:limit]]

    def _claim_doubt(self, row: LifeRow, step: int, doubt: DoubtRow) -> ClaimRow:
        doubt.state = DoubtState.CLAIMED
        doubt.version += 1
        near = [c for c in doubt.place.claims if c.start < doubt.stop and doubt.start < c.stop]
        start = max([doubt.start, *(c.stop for c in near if c.start <= doubt.first)])
        stop = min([doubt.stop, *(c.start for c in near if c.start > doubt.last)])
        number = self._state.next_claim()
        claim = ClaimRow(number, row, step, start, stop, start, start, doubt.unit, doubt)
        doubt.place.claims.append(claim)
        return claim

    # -- what no mark says ---------------------------------------------------------------------------------------------

    def raise_doubt(
        self, life: Life, claim: Claim, records: Sequence[RawRecord], stop: int, reason: str
    ) -> int:
        state, first = self._state, records[0].offset
        with state.lock:
            found = self._to_cut(life, claim, OffsetRange(first, stop))
            if found is None:
                return self._frontier(life, claim.partition)
            place, row = found
            like = rules.Doubted(
                place, DoubtKind.RAISED, row.unit, row.life, row.life, row.claim_id, storable(reason)
            )
            rules.cut_claim(state, place, row, first, stop)
            if row.doubt:
                rules.reopen(state, row.doubt, like)
                return rules.fold(place)
            rules.note_settled(place)
            rules.question(state, like, first, stop)
            for doubt in place.unclosed(first, stop):
                if doubt.kind is DoubtKind.RAISED and doubt.claim_id == row.claim_id:
                    doubt.stored_to = doubt.stop
            return rules.store_payload(state, place, first, stop, records)

    def bury(
        self, life: Life, claim: Claim, records: Sequence[RawRecord], stop: int, reason: str, attempts: int
    ) -> int:
        state, first = self._state, records[0].offset
        with state.lock:
            found = self._to_cut(life, claim, OffsetRange(first, stop))
            if found is None:
                return self._frontier(life, claim.partition)
            place, row = found
            rules.cut_claim(state, place, row, stop, stop)
            over = [row.doubt] if row.doubt else place.unclosed(first, stop)
            for doubt in over:
                if row.doubt or (doubt.first < stop and doubt.last >= first):
                    doubt.decided_by = "member"
                    rules.close_doubt(state, doubt, Outcome.DEAD_LETTER, str(row.life))
            number = row.doubt.doubt_id if row.doubt else None
            known = {letter.record.offset for letter in place.letters}
            place.letters += [
                LetterRow(next(state.numbers), record, storable(reason), attempts, number, str(row.life))
                for record in records
                if record.offset not in known
            ]
            return rules.fold(place)

    def _to_cut(self, life: Life, claim: Claim, span: OffsetRange) -> tuple[PlaceRow, ClaimRow] | None:
        """None when it was done before (the answer was lost)."""
        found = self._state.open_claim(life, claim.claim_id)
        if found is None and self._state.is_over(life):
            raise Fenced(f"claim {claim.claim_id} was fenced")
        if found is None or found[1].start >= span.stop:
            return None
        if span.start < found[1].applied or span.stop > found[1].stop:
            raise Fenced(
                f"claim {claim.claim_id} does not hold {span}: a record below would count as applied"
            )
        return found

    def _frontier(self, life: Life, partition: Partition) -> int:
        place = self._state.place(life.group_id, partition)
        return place.frontier if place else 0

    def effect_transaction(
        self, life: Life, claim_id: int, applied: int
    ) -> AbstractContextManager[MemoryCursor]:
        return self._effect(life, claim_id, applied)

    @contextmanager
    def _effect(self, life: Life, claim_id: int, applied: int) -> Iterator[MemoryCursor]:
        state = self._state
        with state.lock:
            found = state.open_claim(life, claim_id)
            if found is None and state.is_over(life):
                raise Fenced(f"claim {claim_id} is over")
            if found is None or found[1].applied >= applied:
                raise AlreadyApplied(f"claim {claim_id} is applied up to {applied} already")
            place, row = found
            row.in_effect = True
        cursor = MemoryCursor([])
        try:
            yield cursor
        except BaseException:
            row.in_effect = False
            raise
        with state.lock:
            row.in_effect = False
            rules.write_mark(state, place, row, applied, applied)
            self.effects += cursor.executed
            rules.fold(place)

    # -- offset commits ------------------------------------------------------------------------------------------------

    def committed(self, life: Life, offsets: Mapping[Partition, int]) -> None:
        with self._state.lock:
            for partition, offset in offsets.items():
                place = self._state.place(life.group_id, partition)
                if place:
                    place.committed = max(place.committed, offset)
                    close_known(self._state, place, OrphanState.MEMBER, f"{life.slot}#{life.incarnation}")

    def refused(self, life: Life, offsets: Mapping[Partition, int], reason: str) -> int:
        with self._state.lock:
            places = [(self._state.place(life.group_id, p), offset) for p, offset in offsets.items()]
            return sum(
                write_orphan(self._state, place, min(place.frontier, offset), storable(reason))
                for place, offset in places
                if place
            )

    def record_lost(self, life: Life, lost: Mapping[Partition, OffsetRange]) -> int:
        state, added = self._state, 0
        with state.lock:
            row = state.require_current(life)
            for partition, found in lost.items():
                place = state.place(life.group_id, partition)
                assert place is not None, "a partition is opened before it is polled"
                for fresh in place.not_listed(found):
                    place.lost.append(LostRow(next(state.numbers), fresh, str(row)))
                    state.note("partition", partition.number, "deleted before it was read", row)
                    added += fresh.stop - fresh.start
        return added

    def frontiers(self, group_id: str, topics: Iterable[str]) -> Mapping[Partition, int]:
        names = set(topics)
        with self._state.lock:
            places = self._state.group_places(group_id)
            return {p.partition: p.frontier for p in places if p.partition.topic in names}

    def released_count(self, group_id: str) -> int:
        with self._state.lock:
            doubts = (d for p in self._state.group_places(group_id) for d in p.doubts)
            return sum(d.state is DoubtState.RELEASED and d.durable for d in doubts)


class MemoryLedger:
    """The four ports over one state, like the PostgreSQL adapter's `Ledgers`."""

    def __init__(self, clock: Clock) -> None:
        self.state = LedgerState(clock)
        self.member = MemoryMemberLedger(self.state)
        self.leader = MemoryLeaderLedger(self.state)
        self.evidence = MemoryEvidenceLedger(self.state)
        self.report = MemoryReportLedger(self.state)

    def close(self) -> None:
        """Nothing to give back: it stays for the next one who looks."""
