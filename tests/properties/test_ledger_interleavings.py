"""Random interleavings of claims, votes, marks, give-backs, exceptions, deaths and evidence on the ledger, against a naive twin.

The twin knows only which records exist and whose effect happened how often. After every step no offset commit could pass a
record that is neither settled nor a durable doubt (S2, case 52); at the end everything is settled and every record has had
exactly one effect (S1, L1, L2), whatever the votes were.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledger_stage import PLACE, MemoryStage, PostgresStage, Stage

from airflow_kafka_exactly.protocol.claims import Claim, DoubtState, Life, Verdict
from airflow_kafka_exactly.protocol.evidence import Answer
from airflow_kafka_exactly.protocol.record import RawRecord

LOG = 18
"""Offsets 0 to 17 of one partition."""
GAPS = {4, 5, 11, 17}


endings = st.sampled_from(["applied", "applied", "applied", "raised", "raised_after", "silent"])
some_votes = st.just(0) | st.integers(0, 511)
anybody = st.sampled_from(["a", "b", "old a", "old b"])


@dataclass
class Process:
    """A member: what it believes may be arbitrarily stale, but it stops when its trust window ends."""

    life: Life
    hand: list[tuple[Claim, list[RawRecord]]] = field(default_factory=list)
    started: dict[int, int] = field(default_factory=dict)
    """How far each claim was marked started: windows are written ahead."""


class Interleavings(RuleBasedStateMachine):
    stage: Stage

    def __init__(self) -> None:
        super().__init__()
        self.effects = dict.fromkeys((o for o in range(LOG) if o not in GAPS), 0)
        self.processes: dict[str, Process] = {}
        self.stage = self.new_stage()
        self.stage.gaps = GAPS

    def new_stage(self) -> Stage:
        return MemoryStage()

    @initialize()
    def start(self) -> None:
        for slot in "ab":
            self.open(slot)

    def open(self, slot: str) -> Process:
        process = self.processes[slot] = Process(self.stage.life(slot))
        return process

    # -- a member's steps

    @rule(
        slot=st.sampled_from("ab"),
        above=st.integers(0, 3),
        size=st.integers(1, 9),
        votes=some_votes,
        unit=st.booleans(),
    )
    def poll_and_claim(self, slot: str, above: int, size: int, votes: int, unit: bool) -> None:
        """Any vote for each record; and no position is too low or too high."""
        process = self.processes[slot]
        start = max(0, min(LOG - 1, self.stage.frontier() + above - 1))
        stop = min(LOG, start + size)
        doubtful = [(o, o + 1) for o in range(start, stop) if votes >> (o - start) & 1]
        result = self.stage.ask(
            process.life, self.stage.part(start, stop, doubtful), unit=unit and not doubtful
        )
        said = [r for claim in result.granted for r in range(claim.range.start, claim.range.stop)]
        for ranges in (result.settled, result.doubted):
            said += [o for span in ranges.get(PLACE, ()) for o in range(span.start, span.stop)]
        assert sorted(said) == list(range(start, stop)), "every offset is in exactly one part of the answer"
        for claim in result.granted:
            process.hand.append((claim, list(self.stage.records(claim.range.start, claim.range.stop))))

    @rule(slot=anybody, how=st.lists(endings, min_size=1, max_size=4), ahead=st.integers(0, 2))
    def run_some(self, slot: str, how: list[str], ahead: int) -> None:
        for ending in how:
            self.run_next(slot, ending, ahead)

    def run_next(self, slot: str, how: str, ahead: int = 0) -> None:
        """The next record (or unit) in hand: started, effect, applied. Or it raises, or the process dies in the middle."""
        process = self.processes.get(slot)
        if not process or not process.hand:
            return
        claim, records = process.hand[0]
        batch = records[: len(records) if claim.unit else 1]
        rest = records[len(batch) :]
        stop = claim.range.stop if not rest else batch[-1].offset + 1
        if batch:
            if process.started.get(claim.claim_id, 0) < stop:
                window = min(claim.range.stop, stop + ahead)
                self.stage.mark(process.life, claim, window, 0)
                process.started[claim.claim_id] = window
            if how != "raised":
                self.effect(batch)
        if how == "silent":
            self.death(slot)
            return
        if batch and how.startswith("raised"):
            self.stage.member.raise_doubt(process.life, claim, batch, stop, "ValueError")
        else:
            self.stage.mark(process.life, claim, stop, stop)
        process.hand[0] = (claim, rest)
        if not rest:
            process.hand.pop(0)

    def effect(self, records: list[RawRecord]) -> None:
        for r in records:
            self.effects[r.offset] += 1
            assert self.effects[r.offset] == 1, f"S1: the effect of {r.offset} happened twice"

    @rule(slot=anybody)
    def give_back(self, slot: str) -> None:
        process = self.processes.get(slot)
        if process and process.hand:
            claim, records = process.hand.pop(0)
            unbegun = claim.range.start if claim.unit or claim.doubt_id or not records else records[0].offset
            done = [r for r in self.stage.records(claim.range.start, claim.range.stop) if r not in records]
            unbegun = unbegun if not done else done[-1].offset + 1
            self.stage.member.give_back(process.life, claim.claim_id, unbegun)

    @rule(slot=st.sampled_from("ab"))
    def redo(self, slot: str) -> None:
        process = self.processes[slot]
        for given in self.stage.claim_released(process.life, self.stage.epoch, 2):
            assert given.records, "S2: only a doubt with its payload is claimed"
            process.hand.append((given.claim, list(given.records)))

    @rule(slot=st.sampled_from("ab"))
    def sign_off(self, slot: str) -> None:
        self.stage.member.close_life(self.processes[slot].life)
        self.open(slot)

    @rule(slot=st.sampled_from("ab"))
    def takeover(self, slot: str) -> None:
        """A second copy of the same task instance: the old one may claim nothing more, and works on until its lease ends."""
        if "old " + slot not in self.processes:
            self.processes["old " + slot] = self.processes[slot]
            self.open(slot)

    @rule(slot=st.sampled_from("ab"))
    def death(self, slot: str) -> None:
        """It stops for good, and later its lease ends. A successor may open before that."""
        life = self.processes.pop(slot).life
        if slot in "ab":
            self.open(slot)
        self.stage.expire(life)
        self.stage.leader.fence(self.stage.epoch, life)

    @rule(slot=anybody, seen=st.booleans())
    def bury_next(self, slot: str, seen: bool) -> None:
        process = self.processes.get(slot)
        if process and process.hand and process.hand[0][1] and seen and not process.hand[0][0].unit:
            claim, records = process.hand[0]
            stop = records[0].offset + 1 if len(records) > 1 else claim.range.stop
            self.stage.member.bury(process.life, claim, records[:1], stop, "poison", 3)
            self.effects[records[0].offset] += 1  # its outcome: a dead letter, and nothing else
            assert self.effects[records[0].offset] == 1
            process.hand[0] = (claim, records[1:])
            if not records[1:]:
                process.hand.pop(0)

    # -- everybody else's

    @rule()
    def new_leader(self) -> None:
        self.stage.new_epoch()

    @rule(which=st.integers(0, 5))
    def evidence(self, which: int) -> None:
        doubts = [f for f in self.stage.doubts() if f.state is DoubtState.OPEN]
        if doubts:
            facts = doubts[which % len(doubts)]
            records = self.stage.evidence.payload(facts.doubt_id)
            answers = {self.effects[r.offset] > 0 for r in records}
            assert len(answers) < 2 or facts.unit
            if len(answers) == 1:  # a unit cut in pieces by others' batches may be half done: a person's
                self.stage.weigh(facts, Answer.YES if answers.pop() else Answer.NO)
            else:
                self.stage.weigh(facts)

    # -- what must hold

    @invariant()
    @precondition(lambda self: self.processes)
    def case_52_the_frontier_passes_only_settled_records_and_durable_doubts(self) -> None:
        frontier = self.stage.frontier()
        durable = [f for f in self.stage.doubts() if f.durable]
        for offset, effects in self.effects.items():
            if offset < frontier and not effects:
                assert any(offset in f.range for f in durable), (
                    f"S2: {offset} is below the frontier {frontier}"
                )

    def teardown(self) -> None:
        """Faults stop: everything is settled in bounded steps, each record once (L1, S1)."""
        for slot in sorted(self.processes, reverse=True):
            self.death(slot)
        self.stage.pass_time(60)
        for overdue in self.stage.leader.overdue():  # also lives that signed off with a window
            assert self.stage.leader.fence(self.stage.epoch, overdue.life)
        for slot in "ab":
            self.open(slot)
        for _ in range(12):
            for slot in list(self.processes):
                if self.stage.frontier() < LOG:
                    self.poll_and_claim(slot, 1, LOG, 0, False)
                self.redo(slot)
                while self.processes[slot].hand:
                    self.run_next(slot, "applied")
            for which in range(len(self.stage.doubts())):
                self.evidence(which)
            self.finish_torn_units()
            if not self.stage.doubts() and self.stage.frontier() == LOG:
                break
        assert not self.stage.doubts(), f"L1: {self.stage.doubted()}"
        assert self.stage.frontier() == LOG, "L1"
        assert set(self.effects.values()) <= {1}, f"L2: {self.effects}"
        assert self.stage.report.reconcile("payments", {PLACE: LOG}) == [], "case 1"

    def finish_torn_units(self) -> None:
        """A person's ruling for a piece of a unit whose records differ: what is missing is done by hand."""
        for facts in self.stage.doubts():
            records = self.stage.evidence.payload(facts.doubt_id)
            torn = len({self.effects[r.offset] for r in records}) > 1
            if (
                facts.state is DoubtState.OPEN
                and torn
                and self.stage.decide(facts, Verdict.APPLIED, by="person")
            ):
                for r in records:
                    self.effects[r.offset] = 1


def test_case_52_interleavings_in_memory() -> None:
    run_state_machine_as_test(
        Interleavings,
        settings=settings(
            max_examples=300, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.integration
def test_case_52_interleavings_on_postgresql(database: str) -> None:
    stage = PostgresStage(database)

    class OnPostgres(Interleavings):
        def new_stage(self) -> Stage:
            stage.empty()
            return stage

    run_state_machine_as_test(
        OnPostgres,
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    stage.ledger.close()
