"""Where an interleaving begins: one partition (or two) of one group, the same on both ledgers.

0       1 … 5                        6, 7                   8                       9 … 11
applied the scene's own records,     voted doubtful, open   voted doubtful, then    free
        5 is a gap of the log                               released
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ledger_stage import PLACE, Stage, record

from airflow_kafka_exactly.protocol.claims import Claim, DoubtFacts, Life, Mark, Opening, Redo, Verdict
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch, RawRecord

SECOND = Partition(PLACE.topic_id, 1, PLACE.topic)
LOG, GAP = 12, 5
LEASE_S = 86_000.0
"""Scenes are built once and used for hours."""


@dataclass
class Scene:
    """What the parties know when it begins. They may be wrong about it: that is what most of the ledger's rules are for."""

    name: str
    a: Life
    b: Life
    votes_epoch: int
    """The epoch of the members' votes."""
    epoch: int
    """The epoch that the leader believes to be its own."""
    step: int
    """The number under which `holder` was granted its claim."""
    happened: set[tuple[int, int]] = field(default_factory=set)
    """(partition, offset) of each record whose effect has happened."""
    holder: Life | None = None
    claim: Claim | None = None
    """The claim that `holder` believes to hold, with its marks."""
    doubts: list[DoubtFacts] = field(default_factory=list)
    redo: Redo | None = None
    orphans: list[int] = field(default_factory=list)
    parts: tuple[Partition, ...] = (PLACE,)
    ended: bool = False
    """`holder` has ended the claim, whatever it knows of the answer."""
    in_flight: bool = False
    """The effect of the claim's next record is under way in a transaction of a third party."""

    @property
    def unmarked(self) -> tuple[RawRecord, ...]:
        """The records of the claim above its applied mark."""
        assert self.claim is not None
        return records(self.claim.applied, self.claim.range.stop)


def records(start: int, stop: int) -> tuple[RawRecord, ...]:
    return tuple(record(o) for o in range(start, stop) if o != GAP)


SCENES: dict[str, Callable[[Stage], Scene]] = {}


def scene(build: Callable[[Stage], Scene]) -> Callable[[Stage], Scene]:
    SCENES[build.__name__] = build
    return build


def build(name: str, stage: Stage) -> Scene:
    stage.gaps = {GAP}
    built = SCENES[name](stage)
    built.name = name
    built.doubts = [f for f in stage.doubts() if f.state == "open"]
    built.orphans = [o.orphan_id for o in stage.leader.sweep_orphans(stage.epoch)]
    return built


def _base(
    stage: Stage, *, parts: tuple[Partition, ...] = (PLACE,), unit: bool = False, alive: bool = False
) -> Scene:
    """Life `a` holds [1, 6), marked started up to 4 and applied up to 2 (a unit: started as a whole)."""
    stage.new_epoch()
    a, b = (stage.life(slot, opened=False, lease_s=LEASE_S) for slot in "ab")
    for life in (b, a):
        stage.member.open_partitions(life, "cluster-1", [Opening(p, 0, False) for p in parts])
    scene = Scene("", a, b, stage.epoch, stage.epoch, 0, parts=parts)
    for part in parts:
        first = stage.ask(a, _part(stage, part, 0, 1)).granted[0]
        _mark(stage, a, first, 1, 1)
        stage.member.refused(a, {part: 1}, "REBALANCE_IN_PROGRESS")
        stage.ask(b, _part(stage, part, 6, 9, doubtful=True))
    scene.step = stage.next_step()
    claims = stage.ask(a, *(_part(stage, p, 1, 6) for p in parts), unit=unit, step=scene.step).granted
    for claim in claims:
        started, applied = (6, 1) if unit else (4, 2)
        _mark(stage, a, claim, started, applied)
        scene.happened |= {(claim.partition.number, o) for o in ((0, 1, 2, 3, 4) if unit else (0, 1, 2))}
    scene.holder, scene.claim = a, replace(claims[0], started=6 if unit else 4, applied=1 if unit else 2)
    for facts in stage.doubts():
        if facts.range.start == 8:
            assert stage.decide(facts, Verdict.NOT_APPLIED)
    if not alive:
        stage.expire(a)
    return scene


def _mark(stage: Stage, life: Life, claim: Claim, started: int, applied: int) -> None:
    stage.member.mark(life, [Mark(claim.claim_id, started, applied)])


def _part(stage: Stage, place: Partition, start: int, stop: int, doubtful: bool = False) -> Any:
    made = stage.part(start, stop, doubtful)
    batch = PartitionBatch(place, OffsetRange(start, stop), records(start, stop))
    return replace(made, batch=batch)


@scene
def open_claim(stage: Stage) -> Scene:
    return _base(stage, alive=True)


@scene
def lease_over(stage: Stage) -> Scene:
    return _base(stage)


@scene
def nobody_at_work(stage: Stage) -> Scene:
    made = _base(stage)
    stage.expire(made.b)
    return made


@scene
def unit(stage: Stage) -> Scene:
    return _base(stage, unit=True)


@scene
def collision(stage: Stage) -> Scene:
    """b polled what a holds."""
    made = _base(stage)
    stage.ask(made.b, _part(stage, PLACE, 1, 6))
    return made


@scene
def collision_of_a_unit(stage: Stage) -> Scene:
    made = _base(stage, unit=True)
    stage.ask(made.b, _part(stage, PLACE, 1, 6))
    return made


def _fenced(stage: Stage) -> Scene:
    made = _base(stage)
    assert stage.leader.fence(stage.epoch, made.a)
    return made


@scene
def window(stage: Stage) -> Scene:
    """a was fenced with a window of two records, whose payload is not stored yet. It does not know."""
    return _fenced(stage)


@scene
def window_stored(stage: Stage) -> Scene:
    made = _fenced(stage)
    made.step = stage.next_step()
    claim = stage.ask(made.b, _part(stage, PLACE, 1, 6), step=made.step).granted[0]
    made.holder, made.claim = made.b, claim
    return made


@scene
def released_window(stage: Stage) -> Scene:
    """The record of the window that never happened is released."""
    made = window_stored(stage)
    (unapplied,) = [f for f in stage.doubts() if f.range.start == 3]
    assert stage.decide(unapplied, Verdict.NOT_APPLIED, by="check")
    return made


@scene
def redo(stage: Stage) -> Scene:
    """a redoes the released record; it has begun."""
    made = _base(stage)
    (given,) = stage.claim_released(made.a, stage.epoch, 1)
    _mark(stage, made.a, given.claim, 9, 0)
    made.happened.add((0, 8))
    made.redo = replace(given, claim=replace(given.claim, started=9))
    return made


@scene
def redo_not_begun(stage: Stage) -> Scene:
    made = _base(stage)
    (made.redo,) = stage.claim_released(made.a, stage.epoch, 1)
    return made


@scene
def raised(stage: Stage) -> Scene:
    """The function raised at 2, after its effect; its claim goes on above."""
    made = _base(stage)
    assert made.claim is not None
    stage.member.raise_doubt(made.a, made.claim, [record(2)], 3, "ValueError")
    made.claim = replace(made.claim, range=OffsetRange(3, 6), started=4, applied=3)
    return made


@scene
def superseded(stage: Stage) -> Scene:
    """The slot's next life is open; the old one goes on with its claim."""
    made = _base(stage)
    stage.life("a", opened=True, lease_s=LEASE_S)
    return made


@scene
def signed_off(stage: Stage) -> Scene:
    """a closed with a window: it keeps that, for the fence."""
    made = _base(stage)
    stage.member.close_life(made.a)
    made.ended = True
    return made


@scene
def given_back(stage: Stage) -> Scene:
    """a has given its claim back and does not know: the answer was lost."""
    made = _base(stage)
    assert made.claim is not None
    stage.member.give_back(made.a, made.claim.claim_id, 4)
    made.ended = True
    return made


@scene
def raised_epoch(stage: Stage) -> Scene:
    """The members' votes are of the leader before."""
    made = _base(stage)
    made.epoch = stage.new_epoch()
    return made


@scene
def old_leader(stage: Stage) -> Scene:
    """The leader does not know that another one has raised the epoch."""
    made = _base(stage)
    made.votes_epoch = stage.new_epoch()
    return made


@scene
def effect_in_flight(stage: Stage) -> Scene:
    made = collision(stage)
    made.in_flight = True
    return made


@scene
def two_partitions(stage: Stage) -> Scene:
    return _base(stage, parts=(PLACE, SECOND))
