"""The ledger in memory, as the evidence check uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_kafka_exactly.adapters.memory import ledger_rules as rules
from airflow_kafka_exactly.adapters.memory.ledger_state import (
    DoubtRow,
    LedgerState,
    LetterRow,
    LifeRow,
)
from airflow_kafka_exactly.protocol.claims import (
    CheckReference,
    Decision,
    DoubtFacts,
    DoubtState,
    LifeKind,
    Outcome,
    Verdict,
)
from airflow_kafka_exactly.protocol.record import OffsetRange, RawRecord


class MemoryEvidenceLedger:
    """`ports.EvidenceLedger`."""

    def __init__(self, state: LedgerState) -> None:
        self._state = state

    def announce(self, limit: int, again_after_s: float) -> Sequence[DoubtFacts]:
        with self._state.lock:
            now = self._state.clock.now()
            due = [d for d in self._all() if d.state is DoubtState.OPEN and _due(d, now, again_after_s)]
            due = sorted(due, key=_waited)[:limit]
            for doubt in due:
                doubt.announced_at, doubt.quiet_until = now, None
            return [self._facts(doubt) for doubt in due]

    def hold(self, versions: Mapping[int, int], for_s: float) -> None:
        with self._state.lock:
            for doubt in self._all():
                if versions.get(doubt.doubt_id) == doubt.version and doubt.state is DoubtState.OPEN:
                    doubt.quiet_until = self._state.clock.now() + for_s if for_s > 0 else None
                    doubt.announced_at = doubt.announced_at if for_s > 0 else None

    def facts_of(self, doubt_ids: Sequence[int]) -> Sequence[DoubtFacts]:
        with self._state.lock:
            return [self._facts(doubt) for doubt in self._all() if doubt.doubt_id in doubt_ids]

    def find(self, group_id: str, topic: str, partition: int, offsets: OffsetRange) -> Sequence[DoubtFacts]:
        with self._state.lock:
            return [
                self._facts(doubt)
                for place in self._state.group_places(group_id)
                if (place.partition.topic, place.partition.number) == (topic, partition)
                for doubt in sorted(place.unclosed(offsets.start, offsets.stop), key=lambda d: d.doubt_id)
            ]

    def payload(self, doubt_id: int) -> Sequence[RawRecord]:
        with self._state.lock:
            doubt = self._state.doubt(doubt_id)
            return [record for _, record in sorted(doubt.records.items())] if doubt else []

    def decide(self, decision: Decision) -> bool:
        state = self._state
        with state.lock:
            doubt = state.doubt(decision.doubt_id)
            if doubt is None:
                return False
            rules.note_settled(doubt.place)
            applied, letter = decision.verdict is Verdict.APPLIED, decision.dead_letter
            # What is released and has no payload waits for it, and may be given up: nobody runs it.
            waits = letter and doubt.state is DoubtState.RELEASED and not doubt.durable
            if doubt.version != decision.version or not (doubt.state is DoubtState.OPEN or waits):
                return False
            if doubt.settled and (letter or not applied):
                return False
            if decision.verdict is Verdict.UNKNOWN and not letter:
                _write(doubt, decision)
                doubt.version += 1
                return True
            # A claim over it may still have its effect: only its own life, or its fence, ends that (H30).
            if rules.holder(doubt):
                return False
            _write(doubt, decision)
            if letter and not doubt.durable:  # nothing is left to keep
                rules.close_doubt(state, doubt, Outcome.LOST, decision.by)
            elif letter:
                self._bury(doubt, decision.by)
            elif applied:
                rules.close_doubt(state, doubt, Outcome.DISCARDED, decision.by)
            else:
                rules.release(state, doubt, decision.by)
            rules.fold(doubt.place)
            return True

    def _bury(self, doubt: DoubtRow, by: str) -> None:
        known = {letter.record.offset for letter in doubt.place.letters}
        doubt.place.letters += [
            LetterRow(next(self._state.numbers), record, doubt.reason, 1, doubt.doubt_id, by)
            for offset, record in sorted(doubt.records.items())
            if offset not in known
        ]
        rules.close_doubt(self._state, doubt, Outcome.DEAD_LETTER, by)

    def _all(self) -> list[DoubtRow]:
        doubts = [d for place in self._state.places.values() for d in place.doubts]
        return sorted(doubts, key=lambda d: d.doubt_id)

    def _facts(self, doubt: DoubtRow) -> DoubtFacts:
        place, now, held = doubt.place, self._state.clock.now(), rules.holder(doubt)
        life = held.life if held else doubt.life
        alive = life is not None and not life.over
        ended = (
            min(life.lease_until, life.ended_at if life.ended_at is not None else life.lease_until)
            if life
            else now
        )
        return DoubtFacts(
            doubt_id=doubt.doubt_id,
            version=doubt.version,
            group_id=place.group_id,
            cluster_id=place.cluster_id,
            partition=place.partition,
            range=OffsetRange(doubt.start, doubt.stop),
            unit=doubt.unit,
            kind=doubt.kind,
            state=doubt.state,
            durable=doubt.durable,
            slot=life.life.slot if life else None,
            incarnation=life.life.incarnation if life else None,
            settled_elsewhere=doubt.settled or (doubt.by_ledger and rules.covered(doubt)),
            claim_id=held.claim_id if held else None,
            claim_started=held is not None and held.started > doubt.first,
            lease_left_s=life.lease_until - now if life and alive else 0.0,
            since_lease_end_s=max(0.0, now - ended),
            age_s=now - doubt.kind_since,
            passed=not doubt.durable and place.committed > max(doubt.stored_to, doubt.first),
            unread=place.last_life is None or place.last_life.over,
            check=self._check(life or doubt.written_by),
            reason=doubt.reason,
        )

    def _check(self, life: LifeRow | None) -> CheckReference:
        """The newest of the slot: a check that was repaired and deployed since counts for old doubts too."""
        if life is None:
            return CheckReference()
        slot = (life.life.group_id, life.life.slot)
        workers = [
            r
            for n, r in self._state.lives.items()
            if (n.group_id, n.slot) == slot and r.asked.kind is LifeKind.WORKER
        ]
        return max(workers, key=lambda r: r.life.incarnation, default=life).asked.check


def _due(doubt: DoubtRow, now: float, again_after_s: float) -> bool:
    quiet = doubt.quiet_until is not None and doubt.quiet_until > now
    return not quiet and (doubt.announced_at is None or doubt.announced_at <= now - again_after_s)


def _waited(doubt: DoubtRow) -> tuple[bool, float]:
    """Whoever waited longest has its turn first: doubts that nothing closes must not starve the others (L1)."""
    return (doubt.announced_at is not None, doubt.announced_at or 0.0)


def _write(doubt: DoubtRow, decision: Decision) -> None:
    doubt.verdict, doubt.decided_by, doubt.evidence = decision.verdict, decision.by, dict(decision.evidence)
