"""Faults to plant in the ledger. Each is what somebody might have written; the simulator must find every one."""

# ruff: noqa: ARG005 - a planted function ignores what the right one looks at

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from airflow_kafka_exactly.adapters.memory import ledger, ledger_evidence, ledger_leader, ledger_rules
from airflow_kafka_exactly.adapters.memory import ledger_arbiter as arbiter
from airflow_kafka_exactly.adapters.memory.ledger import MemoryMemberLedger
from airflow_kafka_exactly.adapters.memory.ledger_evidence import MemoryEvidenceLedger
from airflow_kafka_exactly.adapters.memory.ledger_leader import MemoryLeaderLedger
from airflow_kafka_exactly.adapters.memory.ledger_state import DoubtRow, LedgerState
from airflow_kafka_exactly.errors import AlreadyApplied
from airflow_kafka_exactly.ports import OverdueLife
from airflow_kafka_exactly.protocol.claims import DoubtState, Outcome

rules: Any = ledger_rules
PLANTED: dict[str, Callable[[], None]] = {}


def planted(fault: Callable[[], None]) -> Callable[[], None]:
    PLANTED[fault.__name__] = fault
    return fault


def everywhere(name: str, new: Any) -> None:
    """Replace a rule in every module that knows it by its own name."""
    for module in (ledger_rules, arbiter, ledger_leader, ledger_evidence):
        if hasattr(module, name):
            setattr(module, name, new)


# -- S4: guards --------------------------------------------------------------------------------------------------------


@planted
def no_epoch_check() -> None:
    LedgerState.require_epoch = lambda *_: None  # type: ignore[method-assign]


@planted
def no_incarnation_check() -> None:
    LedgerState.require_current = lambda self, life: self.lives[life]  # type: ignore[method-assign]


# -- fences ------------------------------------------------------------------------------------------------------------


@planted
def fence_without_looking_at_the_lease() -> None:
    fence = MemoryLeaderLedger.fence

    def blind(self: Any, epoch: int, life: Any) -> bool:
        row = self._state.lives.get(life)
        if row is not None:
            row.lease_until = min(row.lease_until, self._state.clock.now() - 1.0)
        return fence(self, epoch, life)

    MemoryLeaderLedger.fence = blind  # type: ignore[method-assign]


@planted
def silence_is_proof() -> None:
    """A life that has not renewed for half of its lease is taken for dead."""

    def overdue(self: Any) -> list[OverdueLife]:
        now = self._state.clock.now()
        late = [
            r for r in self._state.lives.values() if not r.over and r.lease_until - now < r.asked.lease_s / 2
        ]
        for row in late:
            row.lease_until = min(row.lease_until, now - 0.001)
        return [OverdueLife(r.life, 0.0) for r in late]

    MemoryLeaderLedger.overdue = overdue  # type: ignore[method-assign, assignment]


@planted
def takeover_ends_the_old_lease() -> None:
    open_life = MemoryMemberLedger.open_life

    def opened(self: Any, request: Any) -> Any:
        life = open_life(self, request)
        for row in self._state.lives.values():
            if row.state == "superseded":
                row.lease_until = min(row.lease_until, self._state.clock.now())
        return life

    MemoryMemberLedger.open_life = opened  # type: ignore[method-assign]


@planted
def fence_leaves_claims_open() -> None:
    rules.fence_claim = lambda *_: None


@planted
def fence_forgets_the_started_mark() -> None:
    fence = rules.fence_claim

    def forgetful(state: Any, place: Any, claim: Any) -> None:
        claim.started = claim.applied
        fence(state, place, claim)

    rules.fence_claim = forgetful


@planted
def fence_settles_the_window() -> None:
    fence = rules.fence_claim

    def generous(state: Any, place: Any, claim: Any) -> None:
        claim.applied = claim.started
        fence(state, place, claim)

    rules.fence_claim = generous


@planted
def fence_keeps_claimed_doubts() -> None:
    rules._fence_redo = lambda state, place, claim, doubt: place.claims.remove(claim)


@planted
def fence_drops_the_window() -> None:
    """The window is neither doubted nor given back: everything above the applied mark counts as settled later."""
    rules.question = lambda *_, **__: None


@planted
def window_is_judged_as_a_whole() -> None:
    """One row for all of its records, although each had an effect of its own."""

    def whole(_: Any, window: DoubtRow, __: int, ___: int) -> None:
        window.unlisted = False

    rules._list_window = whole


@planted
def sign_off_gives_the_window_back() -> None:
    close_life = MemoryMemberLedger.close_life

    def close(self: Any, life: Any) -> None:
        row = self._state.lives.get(life)
        for _, claim in list(self._state.claims_of(row)) if row is not None and not row.over else ():
            claim.started = claim.applied
        close_life(self, life)

    MemoryMemberLedger.close_life = close  # type: ignore[method-assign]


# -- S2: the frontier --------------------------------------------------------------------------------------------------


@planted
def frontier_passes_open_claims() -> None:
    fold = rules.fold

    def eager(place: Any) -> int:
        position = fold(place)
        claim = place.claim_at(position)
        while claim is not None:
            position = place.frontier = claim.stop
            claim = place.claim_at(position)
        return int(position)

    everywhere("fold", eager)


@planted
def frontier_passes_doubts_without_payload() -> None:
    DoubtRow.durable = property(lambda self: self.kind != "nothing")  # type: ignore[method-assign, assignment]


@planted
def started_is_not_monotone() -> None:
    write_mark = rules.write_mark

    def lower(state: Any, place: Any, claim: Any, started: int, applied: int) -> None:
        write_mark(state, place, claim, started, applied)
        if not claim.settled:
            claim.started = max(started, applied)

    rules.write_mark = lower


@planted
def applied_is_not_monotone() -> None:
    write_mark = rules.write_mark

    def lower(state: Any, place: Any, claim: Any, started: int, applied: int) -> None:
        write_mark(state, place, claim, started, applied)
        if not claim.settled:
            claim.applied = applied

    rules.write_mark = lower


# -- S5: the arbiter ---------------------------------------------------------------------------------------------------


def judging(change: Callable[..., Any]) -> None:
    judge = arbiter._judge
    arbiter._judge = lambda place, life, step, at, doubtful: change(judge, place, life, step, at, doubtful)


@planted
def arbiter_blind_to_claims() -> None:
    def blind(judge: Any, place: Any, life: Any, step: int, at: int, doubtful: bool) -> Any:
        what, claim = judge(place, life, step, at, doubtful)
        return ("free", None) if what == "collision" else (what, claim)

    judging(blind)
    arbiter._insert.__code__ = _insert_anyway.__code__


def _insert_anyway(state: Any, place: Any, life: Any, request: Any, span: Any) -> Any:
    claim = ClaimRow(  # type: ignore[name-defined] # noqa: F821 - in the arbiter's module
        state.next_claim(), life, request.step, span.start, span.stop, span.start, span.start, request.unit
    )
    place.claims.append(claim)
    return claim


@planted
def arbiter_blind_to_doubts() -> None:
    def blind(judge: Any, place: Any, life: Any, step: int, at: int, doubtful: bool) -> Any:
        what, claim = judge(place, life, step, at, doubtful)
        return ("free", None) if what == "doubted" and at >= place.frontier else (what, claim)

    judging(blind)


@planted
def arbiter_blind_to_what_is_settled() -> None:
    def blind(judge: Any, place: Any, life: Any, step: int, at: int, doubtful: bool) -> Any:
        what, claim = judge(place, life, step, at, doubtful)
        return ("free", None) if what == "settled" and place.claim_at(at) is None else (what, claim)

    judging(blind)


@planted
def late_copies_are_granted_again() -> None:
    """No number is remembered: a copy that comes after its own answer takes what nobody will ever give back (L1)."""
    arbitrate = ledger.arbitrate

    def forgetful(state: Any, life: Any, request: Any) -> Any:
        result = arbitrate(state, life, request)
        life.step = 0
        return result

    ledger.arbitrate = forgetful


@planted
def attempt_not_recognised() -> None:
    """A lost answer makes the batch collide with itself."""
    judging(lambda judge, place, life, _, at, doubtful: judge(place, life, -1, at, doubtful))


@planted
def doubts_without_their_payload() -> None:
    everywhere("store_payload", lambda state, place, start, stop, records: rules.fold(place))


@planted
def gap_closes_a_doubt_unseen() -> None:
    """Every doubt that holds no record yet is taken for a gap."""
    store = rules.store_payload

    def hasty(state: Any, place: Any, start: int, stop: int, records: Sequence[Any]) -> int:
        for doubt in place.unclosed(start, stop):
            if not doubt.records:
                doubt.stored_to = doubt.stop
        return int(store(state, place, start, stop, ()))

    everywhere("store_payload", hasty)


# -- S7: doubts and verdicts -------------------------------------------------------------------------------------------


@planted
def verdict_not_bound_to_its_version() -> None:
    decide = MemoryEvidenceLedger.decide

    def late(self: Any, decision: Any) -> bool:
        doubt = self._state.doubt(decision.doubt_id)
        return decide(self, replace(decision, version=doubt.version) if doubt is not None else decision)

    MemoryEvidenceLedger.decide = late  # type: ignore[method-assign]


@planted
def verdict_while_another_claim_runs() -> None:
    ledger_rules.holder = lambda _: None


@planted
def give_back_closes_the_doubt() -> None:
    end_claim = rules.end_claim

    def closing(state: Any, place: Any, claim: Any, start: int) -> None:
        doubt = claim.doubt
        end_claim(state, place, claim, start)
        if doubt is not None and doubt.state is DoubtState.RELEASED:
            rules.close_doubt(state, doubt, Outcome.REDONE, "given back")

    rules.end_claim = closing


@planted
def raised_record_stays_in_its_claim() -> None:
    """F1: a later applied mark covers it."""
    rules.cut_claim = lambda *_: None


@planted
def dead_letter_without_a_letter() -> None:
    bury = MemoryMemberLedger.bury

    def silent(self: Any, life: Any, claim: Any, *rest: Any) -> int:
        frontier = bury(self, life, claim, *rest)
        place = self._state.place(life.group_id, claim.partition)
        place.letters.clear()
        return frontier

    MemoryMemberLedger.bury = silent  # type: ignore[method-assign]


@planted
def effect_transaction_runs_again() -> None:
    """The answer of an effect's own transaction was lost, and nobody looks whether it was there."""
    effect = MemoryMemberLedger.effect_transaction

    def again(self: Any, life: Any, claim_id: int, applied: int) -> Any:
        found = self._state.open_claim(life, claim_id)
        if found is not None and found[1].applied >= applied:
            found[1].applied = applied - 1
        return effect(self, life, claim_id, applied)

    MemoryMemberLedger.effect_transaction = again  # type: ignore[method-assign]
    assert AlreadyApplied


# -- S8 ----------------------------------------------------------------------------------------------------------------


@planted
def read_back_keeps_the_higher_offset() -> None:
    read_back = MemoryLeaderLedger.read_back

    def proud(self: Any, epoch: int, group_id: str, offsets: Any) -> Any:
        known = {p: self._state.place(group_id, p) for p in offsets}
        return read_back(
            self,
            epoch,
            group_id,
            {p: max(o, known[p].committed if known[p] else 0) for p, o in offsets.items()},
        )

    MemoryLeaderLedger.read_back = proud  # type: ignore[method-assign]


@planted
def refused_commits_count_as_known() -> None:
    refused = MemoryMemberLedger.refused

    def hopeful(self: Any, life: Any, offsets: Any, reason: str) -> int:
        self.committed(life, offsets)
        return refused(self, life, offsets, reason)

    MemoryMemberLedger.refused = hopeful  # type: ignore[method-assign]
