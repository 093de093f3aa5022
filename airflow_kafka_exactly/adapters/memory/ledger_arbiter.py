"""The claim transaction of the ledger in memory: the arbiter (S5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from airflow_kafka_exactly.adapters.memory.ledger_rules import Doubted, fold, put_doubts, store_payload
from airflow_kafka_exactly.adapters.memory.ledger_state import (
    ClaimRow,
    DoubtRow,
    LedgerState,
    LifeRow,
    PlaceRow,
)
from airflow_kafka_exactly.protocol.claims import (
    Claim,
    ClaimPart,
    ClaimRequest,
    ClaimResult,
    DoubtKind,
    DoubtState,
    Outcome,
    Redo,
)
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition

_Ranges = dict[Partition, tuple[OffsetRange, ...]]


@dataclass(frozen=True, slots=True)
class Piece:
    """`what`: granted (before), doubted, settled, collision, vote or free."""

    what: str
    start: int
    stop: int
    claim: ClaimRow | None = None


def arbitrate(state: LedgerState, life: LifeRow, request: ClaimRequest) -> ClaimResult:
    granted: list[Claim] = []
    settled, doubted = _Ranges(), _Ranges()
    frontiers: dict[Partition, int] = {}
    new = 0
    places = {
        p.partition: _place(state, life, p) for p in request.parts
    }  # all of them first: nothing is left behind
    again = request.step <= life.step
    life.step = max(life.step, request.step)
    for part in request.parts:
        place, offsets = places[part.partition], [r.offset for r in part.batch.records]
        for piece in _pieces(place, life, request.step, part):
            if again and piece.what in ("collision", "vote", "free"):
                continue  # its answer was heard, and what it was granted has been given back
            span = OffsetRange(piece.start, piece.stop)
            holds_records = any(o in span for o in offsets)
            if piece.what == "settled":
                settled[part.partition] = (*settled.get(part.partition, ()), span)
            elif piece.what in ("doubted", "collision") or (piece.what == "vote" and holds_records):
                doubted[part.partition] = (*doubted.get(part.partition, ()), span)
                if piece.what == "collision" and not holds_records:
                    _settle_gap(state, place, life, piece)
                elif piece.what != "doubted":
                    new += put_doubts(
                        state, _like(place, life, piece, request), span.start, span.stop, offsets
                    )
            else:
                claim = piece.claim or _insert(state, place, life, request, span)
                granted.append(_granted(claim, part.partition, span))
        frontiers[part.partition] = fold(place)
    for part in request.parts:
        for span in doubted.get(part.partition, ()):
            records = part.batch.between(span.start, span.stop)
            frontiers[part.partition] = store_payload(
                state, places[part.partition], span.start, span.stop, records
            )
    return ClaimResult(tuple(granted), settled, doubted, frontiers, new)


def _place(state: LedgerState, life: LifeRow, part: ClaimPart) -> PlaceRow:
    key = (life.life.group_id, life.asked.cluster_id, part.partition.topic_id, part.partition.number)
    if key not in state.places:
        raise RuntimeError(f"{part.partition} is claimed before it was opened")
    return state.places[key]


def _insert(
    state: LedgerState, place: PlaceRow, life: LifeRow, request: ClaimRequest, span: OffsetRange
) -> ClaimRow:
    overlapping = [c for c in place.claims if c.start < span.stop and span.start < c.stop]
    assert not overlapping, "S5: claims never overlap"
    claim = ClaimRow(
        state.next_claim(), life, request.step, span.start, span.stop, span.start, span.start, request.unit
    )
    place.claims.append(claim)
    return claim


def _settle_gap(state: LedgerState, place: PlaceRow, life: LifeRow, piece: Piece) -> None:
    """A gap in another's claim needs nobody, and is polled by nobody again when that claim is given back. (In the middle of a
    unit it would cut the unit's window in two.)"""
    claim = piece.claim
    assert claim is not None
    if claim.unit and claim.stop > piece.stop:
        return
    start, stop, now = piece.start, piece.stop, state.clock.now()
    place.doubts.append(
        DoubtRow(
            doubt_id=next(state.numbers),
            place=place,
            start=start,
            stop=stop,
            first=start,
            last=stop - 1,
            unit=False,
            kind=DoubtKind.COLLISION,
            reason=f"a gap in claim {claim.claim_id}",
            created_at=now,
            kind_since=now,
            stored_to=stop,
            written_by=life,
            state=DoubtState.CLOSED,
            outcome=Outcome.NO_RECORD,
            decided_by="ledger",
            closed_at=now,
        )
    )


def _granted(claim: ClaimRow, partition: Partition, span: OffsetRange) -> Claim:
    return Claim(claim.claim_id, claim.life.life, partition, span, span.start, span.start, claim.unit)


def _like(place: PlaceRow, life: LifeRow, piece: Piece, request: ClaimRequest) -> Doubted:
    if piece.claim:
        why = f"part of claim {piece.claim.claim_id} of {piece.claim.life}"
        # What may happen to another's claim decides whether its records are judged together or one by one.
        return Doubted(
            place, DoubtKind.COLLISION, piece.claim.unit, piece.claim.life, life, piece.claim.claim_id, why
        )
    why = f"voted doubtful in epoch {request.epoch}"
    return Doubted(place, DoubtKind.VOTE, request.unit, None, life, None, why)


def _pieces(place: PlaceRow, life: LifeRow, step: int, part: ClaimPart) -> Iterator[Piece]:
    """Cut the asked range at every boundary; neighbours of one kind (and claim) are one piece."""
    low, high = part.batch.range.start, part.batch.range.stop
    cuts = {low, high, place.frontier}
    cuts |= {x for s in part.segments for x in (s.range.start, s.range.stop)}
    cuts |= {x for c in place.claims for x in (c.start, c.stop, c.applied)}
    cuts |= {x for d in place.doubts for x in (d.start, d.stop)}
    last: Piece | None = None
    for start, stop in pairwise(sorted(x for x in cuts if low <= x <= high)):
        doubtful = next(s.doubtful for s in part.segments if start in s.range)
        what, claim = _judge(place, life, step, start, doubtful)
        if last and last.what == what and last.claim is claim:
            last = Piece(what, last.start, stop, claim)
            continue
        if last:
            yield last
        last = Piece(what, start, stop, claim)
    if last:
        yield last


def _judge(place: PlaceRow, life: LifeRow, step: int, at: int, doubtful: bool) -> tuple[str, ClaimRow | None]:
    claim, doubt = place.claim_at(at), place.doubt_at(at)
    live = claim if claim and not claim.settled and at >= claim.applied else None
    if live and live.life is life and live.step == step:
        return "granted", live
    if doubt and not doubt.closed:
        return "doubted", None
    if at < place.frontier or doubt or (claim and not live):
        return "settled", None
    if live:
        return "collision", live
    return ("vote" if doubtful else "free"), None


def redo_of(place: PlaceRow, claim: ClaimRow) -> Redo:
    doubt, span = claim.doubt, OffsetRange(claim.start, claim.stop)
    assert doubt is not None
    given = Claim(
        claim.claim_id,
        claim.life.life,
        place.partition,
        span,
        claim.started,
        claim.applied,
        claim.unit,
        doubt.doubt_id,
    )
    return Redo(given, tuple(r for _, r in sorted(doubt.records.items())))
