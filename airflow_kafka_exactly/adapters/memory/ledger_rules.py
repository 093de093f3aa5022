"""The rules of the ledger in memory: what the PostgreSQL adapter keeps in `functions/*.sql`, over `ledger_state`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from airflow_kafka_exactly.adapters.memory.ledger_state import (
    ClaimRow,
    DoubtRow,
    LedgerState,
    LifeRow,
    PlaceRow,
)
from airflow_kafka_exactly.protocol.claims import DoubtKind, DoubtState, Failing, Outcome
from airflow_kafka_exactly.protocol.record import RawRecord

# -- the frontier ------------------------------------------------------------------------------------------------------


def fold(place: PlaceRow) -> int:
    """Move the frontier over what is settled or durably doubted (S2)."""
    note_settled(place)
    position = place.frontier
    while True:
        claim, doubt, step = place.claim_at(position), place.doubt_at(position), None
        if claim and claim.settled_to > position:
            step = claim.settled_to
        elif doubt and (doubt.closed or doubt.durable):
            step = doubt.stop
        if step is None:
            break
        position = step
    place.frontier = position
    for claim in [c for c in place.claims if c.settled and c.stop <= position]:
        place.claims.remove(claim)
        _keep_applied(place, claim)
    return position


def _keep_applied(place: PlaceRow, gone: ClaimRow) -> None:
    """Which claim applied a doubt's records: no decision reads it, it is what `reconcile` finds two outcomes by (S1)."""
    for doubt in place.touching(gone.start, gone.stop):
        if gone.doubt is None and gone.start <= doubt.first and doubt.last < gone.stop:
            doubt.applied_by = gone.claim_id


def note_settled(place: PlaceRow) -> None:
    """Keep what an applied mark says about a doubt before the claim's row is folded."""
    for doubt in place.doubts:
        if doubt.state is DoubtState.OPEN and doubt.by_ledger and not doubt.settled and covered(doubt):
            doubt.settled, doubt.announced_at, doubt.quiet_until = True, None, None
            doubt.version += 1


def covered(doubt: DoubtRow) -> bool:
    return any(
        c.doubt is None and c.start <= doubt.first and doubt.last < c.settled_to for c in doubt.place.claims
    )


# -- claims ------------------------------------------------------------------------------------------------------------


def write_mark(state: LedgerState, place: PlaceRow, claim: ClaimRow, started: int, applied: int) -> None:
    claim.started = min(claim.stop, max(claim.started, started, applied))
    claim.applied = min(claim.stop, max(claim.applied, applied))
    claim.settled = claim.applied >= claim.stop
    if claim.settled and claim.doubt:
        close_doubt(state, claim.doubt, Outcome.REDONE, str(claim.life))
        place.claims.remove(claim)


def end_claim(state: LedgerState, place: PlaceRow, claim: ClaimRow, start: int) -> None:
    """End an open claim at `start`. Only this lowers `started` (F5)."""
    stop = max(start, claim.applied)
    if stop >= claim.stop:
        return
    if claim.doubt:
        if not any(offset < stop for offset in claim.doubt.records):
            place.claims.remove(claim)
            release(state, claim.doubt, claim.life)
    elif stop <= claim.start:
        place.claims.remove(claim)
    else:
        claim.stop, claim.started, claim.settled = stop, min(claim.started, stop), claim.applied >= stop


def note_failing(state: LedgerState, place: PlaceRow, failing: Sequence[Failing]) -> None:
    """Each was tried in vain, and provably had no effect. What is settled is not tried again and goes."""
    if not failing:
        return
    for offset in [o for o in place.failing if o < place.frontier]:
        doubt = place.doubt_at(offset)
        if doubt is None or doubt.closed:
            del place.failing[offset]
    now = state.clock.now()
    for one in failing:
        stop, attempts, since = place.failing.get(one.offset, (one.stop, 0, now))
        if stop != one.stop:  # another unit, which was tried last
            attempts, since = 0, now
        place.failing[one.offset] = (one.stop, max(attempts, one.attempts), min(since, now - one.for_s))


def cut_claim(state: LedgerState, place: PlaceRow, claim: ClaimRow, settled: int, stop: int) -> None:
    """Cut `[.., stop)` out of an open claim and settle it up to `settled`; its start moves to `stop` (F1)."""
    if claim.doubt:
        place.claims.remove(claim)
    elif stop < claim.stop:
        start, claim.start = claim.start, stop
        claim.started, claim.applied = max(claim.started, stop), max(claim.applied, stop)
        _settled_part(state, place, claim, start, settled)
    elif settled > claim.start:
        claim.stop = claim.started = claim.applied = settled
        claim.settled = True
    else:
        place.claims.remove(claim)


def _settled_part(state: LedgerState, place: PlaceRow, of: ClaimRow, start: int, stop: int) -> None:
    if start < stop:
        place.claims.append(
            ClaimRow(state.next_claim(), of.life, of.step, start, stop, stop, stop, of.unit, settled=True)
        )


def fence_claim(state: LedgerState, place: PlaceRow, claim: ClaimRow) -> None:
    """The applied part is settled, the window becomes doubts, the rest is free."""
    if claim.doubt:
        _fence_redo(state, place, claim, claim.doubt)
        return
    started, applied = claim.started, claim.applied
    if applied > claim.start:
        claim.stop = claim.started = applied
        claim.settled = True
        note_settled(place)
    else:
        place.claims.remove(claim)
    if started > applied:
        reason = f"between the marks of {claim.life} when its lease ended"
        like = Doubted(
            place, DoubtKind.WINDOW, claim.unit, claim.life, None, claim.claim_id, reason, not claim.unit
        )
        question(state, like, applied, started)


def _fence_redo(state: LedgerState, place: PlaceRow, claim: ClaimRow, doubt: DoubtRow) -> None:
    place.claims.remove(claim)
    if claim.started <= claim.start:
        release(state, doubt, claim.life)
        return
    if claim.applied > claim.start:
        doubt.start, doubt.first = claim.applied, max(doubt.first, claim.applied)
        doubt.records = {o: r for o, r in doubt.records.items() if o >= claim.applied}
        _settled_part(state, place, claim, claim.start, claim.applied)
    reason = f"redone by {claim.life}, between its marks when its lease ended"
    reopen(
        state, doubt, Doubted(place, DoubtKind.WINDOW, doubt.unit, claim.life, None, claim.claim_id, reason)
    )


# -- doubts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Doubted:
    """What the doubts of one cause have in common."""

    place: PlaceRow
    kind: DoubtKind
    unit: bool
    life: LifeRow | None
    by: LifeRow | None
    claim_id: int | None
    reason: str
    unlisted: bool = False
    """Which offsets hold a record is not known: one row, split when the payload comes."""


def put_doubts(state: LedgerState, like: Doubted, start: int, stop: int, offsets: Sequence[int]) -> int:
    """Doubt the records of `[start, stop)`: one row for a unit or a window, else one for each; gaps belong to a doubt."""
    inside = [o for o in offsets if start <= o < stop]
    if not inside:
        return 0
    if like.unit or like.unlisted:
        pieces = [(start, stop, inside[0], inside[-1])]
    else:
        ends = [o + 1 for o in inside[:-1]] + [stop]
        pieces = [(a, b, o, o) for a, b, o in zip([start, *ends], ends, inside, strict=False)]
    now = state.clock.now()
    for a, b, first, last in pieces:
        like.place.doubts.append(
            DoubtRow(
                doubt_id=next(state.numbers),
                place=like.place,
                start=a,
                stop=b,
                first=first,
                last=last,
                unit=like.unit,
                kind=like.kind,
                reason=like.reason,
                created_at=now,
                kind_since=now,
                stored_to=a,
                life=like.life,
                written_by=like.by,
                claim_id=like.claim_id,
                unlisted=like.unlisted,
            )
        )
    return len(pieces)


def question(state: LedgerState, like: Doubted, start: int, stop: int) -> None:
    """Everything in `[start, stop)` is in question: doubts that stand there take the kind, the rest gets new ones (H6)."""

    def rest(a: int, b: int) -> None:
        if a < b:
            offsets = [a, b - 1] if like.unit or like.unlisted else [a]
            put_doubts(state, like, a, b, offsets)

    position = start
    for doubt in like.place.touching(start, stop):
        rest(position, doubt.start)
        position = max(position, doubt.stop)
        if not doubt.closed and doubt.first < stop and doubt.last >= start:
            reopen(state, doubt, like)
    rest(position, stop)


def reopen(state: LedgerState, doubt: DoubtRow, like: Doubted) -> None:
    doubt.state, doubt.kind, doubt.kind_since = DoubtState.OPEN, like.kind, state.clock.now()
    doubt.life, doubt.claim_id, doubt.reason = like.life, like.claim_id, like.reason
    doubt.verdict = doubt.evidence = doubt.decided_by = doubt.announced_at = doubt.quiet_until = None
    doubt.settled = False
    doubt.version += 1
    state.note("doubt", doubt.doubt_id, like.kind, like.life)


def release(state: LedgerState, doubt: DoubtRow, by: object) -> None:
    doubt.state = DoubtState.RELEASED
    doubt.version += 1
    state.note("doubt", doubt.doubt_id, "released", by)


def close_doubt(state: LedgerState, doubt: DoubtRow, outcome: Outcome, by: str) -> None:
    doubt.state, doubt.outcome, doubt.closed_at = DoubtState.CLOSED, outcome, state.clock.now()
    doubt.version += 1
    state.note("doubt", doubt.doubt_id, outcome, by)


def close_lost(state: LedgerState, place: PlaceRow, below: int, by: str, reason: str) -> int:
    """No payload comes any more below the offset: what waits for one is lost (L2), except what an applied mark covers or a claim
    holds that may still have its effect."""
    note_settled(place)
    gone = [
        d
        for d in place.unclosed(0, below)
        if not d.durable and not d.settled and d.stop <= below and holder(d) is None
    ]
    for doubt in gone:
        doubt.decided_by = by
        doubt.evidence = {"why": reason, "kind": doubt.kind.value, "reason": doubt.reason}
        close_doubt(state, doubt, Outcome.LOST, by)
    fold(place)
    return len(gone)


def holder(doubt: DoubtRow) -> ClaimRow | None:
    """The open claim that covers a record of it and has not applied all of them."""
    return next(
        (
            c
            for c in sorted(doubt.place.claims, key=lambda c: c.start)
            if not c.settled
            and c.doubt is not doubt
            and c.start <= doubt.last
            and c.stop > doubt.first
            and c.applied <= doubt.last
        ),
        None,
    )


def store_payload(
    state: LedgerState, place: PlaceRow, start: int, stop: int, records: Sequence[RawRecord]
) -> int:
    """The records of `[start, stop)`: the doubts there become durable as far as the range reaches. Returns the frontier."""
    for record in records:
        doubt = place.doubt_at(record.offset)
        if doubt and not doubt.closed:
            doubt.records.setdefault(record.offset, record)
    for doubt in place.unclosed(start, stop):
        if doubt.unlisted:
            _list_window(state, doubt, start, stop)
    for doubt in place.unclosed(start, stop):
        if not doubt.durable and not doubt.unlisted and start <= doubt.stored_to < stop:
            doubt.stored_to = min(doubt.stop, stop)
            doubt.announced_at = doubt.quiet_until = (
                None  # what may be judged from now on is announced at once
            )
        if doubt.durable and not doubt.records and doubt.state in (DoubtState.OPEN, DoubtState.RELEASED):
            doubt.decided_by = "ledger"
            close_doubt(state, doubt, Outcome.NO_RECORD, "ledger")
    return fold(place)


def _list_window(state: LedgerState, window: DoubtRow, start: int, stop: int) -> None:
    """A fence cannot know which offsets of a window hold a record. Those of `[start, stop)` are stored with it now: each becomes
    a doubt of its own, and what the payload does not reach stays one row. The old row is the first of them."""
    low, high = max(window.start, start), min(window.stop, stop)
    known = sorted(o for o in window.records if low <= o < high)
    ends = [o + 1 for o in known[:-1]] + [high]
    parts = [(a, b, o, o, False) for a, b, o in zip([low, *ends], ends, known, strict=False)]
    parts = parts or [(low, high, low, high - 1, False)]
    rest = [(a, b, a, b - 1, True) for a, b in ((window.start, low), (high, window.stop)) if a < b]
    rows = [window, *(replace(window, doubt_id=next(state.numbers)) for _ in (parts + rest)[1:])]
    records = window.records
    for row, (a, b, first, last, unlisted) in zip(rows, sorted(parts + rest), strict=True):
        row.start, row.stop, row.first, row.last, row.unlisted = a, b, first, last, unlisted
        row.stored_to = a if unlisted else b
        row.records = {o: r for o, r in records.items() if a <= o < b}
        row.announced_at = row.quiet_until = None
    window.version += 1
    window.place.doubts += rows[1:]
