"""What members ask of the ledger: lives, claims, running, giving back, offset commits."""

from __future__ import annotations

from typing import Any

from interleavings.operations import EffectFailed, Frontiers, Operation, Party, Steps, holds, operation, runs
from interleavings.scenes import LEASE_S, Scene, records
from ledger_stage import CLUSTER, GROUP, PLACE

from airflow_kafka_exactly.protocol.claims import (
    CheckReference,
    ClaimPart,
    ClaimRequest,
    Life,
    LifeKind,
    Mark,
    Opening,
    OpenLife,
    Segment,
)
from airflow_kafka_exactly.protocol.record import OffsetRange, PartitionBatch


def _numbered(found: Any) -> Frontiers:
    return Frontiers({x.number: offset for x, offset in found.items()})


# -- lives -------------------------------------------------------------------------------------------------------------


def _open(p: Party, slot: str, owner: str, dag: str = "") -> int:
    check = CheckReference(path="shop.checks:paid", effect_timeout_s=0)
    asked = OpenLife(
        group_id=GROUP, cluster_id=CLUSTER, slot=slot, owner=owner, kind=LifeKind.WORKER, process="host:2",
        lease_s=LEASE_S, check=check, dag_id=dag, task_id=dag,
    )  # fmt: skip
    return int(p.ledger.member.open_life(asked).incarnation)


@operation()
def open_life_again(p: Party) -> Steps:
    yield from ()
    return _open(p, "a", "dag.a")


@operation()
def open_life_of_another_run(p: Party) -> Steps:
    yield from ()
    return _open(p, "a", "dag.a, another run")


@operation()
def open_first_life(p: Party) -> Steps:
    yield from ()
    return _open(p, "c", "dag.c")


@operation()
def open_life_of_a_task(p: Party) -> Steps:
    """The group is its own from then on."""
    yield from ()
    return _open(p, "d", "dag.d", "shop")


@operation()
def open_life_of_another_task(p: Party) -> Steps:
    yield from ()
    return _open(p, "e", "dag.e", "store")


@operation()
def move_group(p: Party) -> Steps:
    yield from ()
    return p.ledger.member.move_group(GROUP, "mall", "mall", "a person")


@operation()
def renew(p: Party) -> Steps:
    yield from ()
    return p.ledger.member.renew(p.scene.a, LEASE_S)


@operation()
def close_a(p: Party) -> Steps:
    yield from ()
    return p.ledger.member.close_life(p.scene.a)


@operation()
def close_b(p: Party) -> Steps:
    yield from ()
    return p.ledger.member.close_life(p.scene.b)


@operation()
def assign_to_b(p: Party) -> Steps:
    yield from ()
    return _numbered(
        p.ledger.member.open_partitions(p.scene.b, CLUSTER, [Opening(x, 1, True) for x in p.scene.parts])
    )


# -- claims ------------------------------------------------------------------------------------------------------------


# Each question has a number of its own, so that any order of them means the same on both ledgers.
def _claim(
    p: Party,
    life: Life,
    start: int,
    stop: int,
    *,
    step: int,
    doubtful: bool = False,
    unit: bool = False,
) -> Steps:
    yield from ()
    span = OffsetRange(start, stop)
    asked = [
        ClaimPart(PartitionBatch(x, span, records(start, stop)), (Segment(span, doubtful),))
        for x in p.scene.parts
    ]
    request = ClaimRequest(life, p.scene.votes_epoch, step, tuple(asked), unit)
    answer = p.ledger.member.claim(request)
    while p.later:
        store = p.later.pop(0)
        yield
        store()
    granted = sorted((c.partition.number, c.range.start, c.range.stop, c.unit) for c in answer.granted)
    said = [
        sorted((x.number, o) for x, spans in found.items() for s in spans for o in range(s.start, s.stop))
        for found in (answer.settled, answer.doubted)
    ]
    return granted, said, _numbered(answer.frontiers), answer.new_doubts


@operation()
def claim_by_b(p: Party) -> Steps:
    return (yield from _claim(p, p.scene.b, 0, 8, step=1001))


@operation()
def claim_unit_by_b(p: Party) -> Steps:
    return (yield from _claim(p, p.scene.b, 2, 11, step=1002, unit=True))


@operation()
def doubt_by_b(p: Party) -> Steps:
    return (yield from _claim(p, p.scene.b, 1, 10, step=1003, doubtful=True))


@operation()
def claim_next_by_a(p: Party) -> Steps:
    return (yield from _claim(p, p.scene.a, 9, 12, step=1004))


@operation(holds)
def claim_again(p: Party) -> Steps:
    """Its answer was lost."""
    assert p.scene.holder is not None
    return (
        yield from _claim(
            p, p.scene.holder, 1, 6, step=p.scene.step, unit=bool(p.scene.claim and p.scene.claim.unit)
        )
    )


def _redo(p: Party, life: Life, step: int) -> Any:
    given = p.ledger.member.claim_released(life, p.scene.votes_epoch, step, 2)
    return sorted(
        (g.claim.partition.number, g.claim.range.start, g.claim.range.stop, [r.offset for r in g.records])
        for g in given
    )


@operation()
def redo_by_a(p: Party) -> Steps:
    yield from ()
    return _redo(p, p.scene.a, 1005)


@operation()
def redo_by_b(p: Party) -> Steps:
    yield from ()
    return _redo(p, p.scene.b, 1006)


# -- running -----------------------------------------------------------------------------------------------------------


def _mark(p: Party, started: int, applied: int) -> Any:
    assert p.scene.holder is not None
    assert p.scene.claim is not None
    p.ledger.member.mark(p.scene.holder, [Mark(p.scene.claim.claim_id, started, applied)])


def _happens(p: Party, start: int, stop: int) -> None:
    assert p.scene.claim is not None
    p.happened |= {(p.scene.claim.partition.number, r.offset) for r in records(start, stop)}


def begun(scene: Scene) -> bool:
    """Something above the applied mark was marked as started."""
    return holds(scene) and scene.claim is not None and scene.claim.started > scene.claim.applied


@operation(holds)
def mark_started(p: Party) -> Steps:
    yield from ()
    return _mark(p, 6, 0)


@operation(begun)
def mark_applied(p: Party) -> Steps:
    assert p.scene.claim is not None
    _happens(p, p.scene.claim.applied, p.scene.claim.started)
    yield from ()
    return _mark(p, 0, p.scene.claim.started)


@operation(runs)
def run_the_rest(p: Party) -> Steps:
    """Started, effect, applied (S3)."""
    assert p.scene.claim is not None
    _mark(p, 6, 0)
    yield
    _happens(p, p.scene.claim.applied, 6)
    _mark(p, 6, 6)


@operation(holds)
def give_back(p: Party) -> Steps:
    assert p.scene.holder is not None
    assert p.scene.claim is not None
    start = p.scene.claim.started if p.scene.claim.doubt_id is None else p.scene.claim.range.start
    yield from ()
    return p.ledger.member.give_back(p.scene.holder, p.scene.claim.claim_id, start)


@operation(runs)
def raise_doubt(p: Party) -> Steps:
    assert p.scene.holder is not None
    assert p.scene.claim is not None
    claim = p.scene.claim
    if not claim.unit and claim.started <= claim.applied:
        _mark(p, claim.applied + 1, 0)
        yield
    raised = p.scene.unmarked if claim.unit else p.scene.unmarked[:1]
    stop = claim.range.stop if claim.unit else raised[-1].offset + 1
    return Frontiers({0: p.ledger.member.raise_doubt(p.scene.holder, claim, raised, stop, "ValueError")})


@operation(lambda scene: runs(scene) and not scene.claim.unit)  # type: ignore[union-attr]
def bury(p: Party) -> Steps:
    """The first record of the window has no effect, the function vouched for that."""
    assert p.scene.holder is not None
    assert p.scene.claim is not None
    claim, poison = (
        p.scene.claim,
        next(r for r in p.scene.unmarked if (PLACE.number, r.offset) not in p.scene.happened),
    )
    _happens(p, claim.applied, poison.offset)
    yield from ()
    return Frontiers(
        {0: p.ledger.member.bury(p.scene.holder, claim, [poison], poison.offset + 1, "poison", 3)}
    )


def _effect(p: Party, applied: int, *, fails: bool = False) -> Any:
    assert p.scene.holder is not None
    assert p.scene.claim is not None
    try:
        with p.ledger.member.effect_transaction(p.scene.holder, p.scene.claim.claim_id, applied) as cursor:
            cursor.execute("select 1")
            p.pause("effect")
            p.fail_if(fails)
        _happens(p, p.scene.claim.applied, applied)
    except EffectFailed:
        return "rolled back"


@operation(runs)
def effect(p: Party) -> Steps:
    assert p.scene.claim is not None
    yield from ()
    return _effect(p, p.scene.claim.range.stop if p.scene.claim.unit else p.scene.claim.applied + 1)


@operation(runs)
def last_effect(p: Party) -> Steps:
    """It ends the claim."""
    assert p.scene.claim is not None
    yield from ()
    return _effect(p, p.scene.claim.range.stop)


@operation(runs)
def failed_effect(p: Party) -> Steps:
    assert p.scene.claim is not None
    yield from ()
    return _effect(p, p.scene.claim.range.stop, fails=True)


IN_FLIGHT = Operation("last_effect", last_effect, lambda scene: scene.in_flight)


@operation(lambda scene: scene.redo is not None)
def finish_redo(p: Party) -> Steps:
    assert p.scene.redo is not None
    claim = p.scene.redo.claim
    if claim.started <= claim.range.start:
        p.ledger.member.mark(claim.life, [Mark(claim.claim_id, claim.range.stop, 0)])
        yield
    p.happened |= {(claim.partition.number, r.offset) for r in p.scene.redo.records}
    p.ledger.member.mark(claim.life, [Mark(claim.claim_id, claim.range.stop, claim.range.stop)])


@operation(lambda scene: scene.redo is not None)
def give_back_redo(p: Party) -> Steps:
    assert p.scene.redo is not None
    claim = p.scene.redo.claim
    yield from ()
    return p.ledger.member.give_back(claim.life, claim.claim_id, claim.started)


# -- offset commits ----------------------------------------------------------------------------------------------------


@operation()
def committed(p: Party) -> Steps:
    yield from ()
    return p.ledger.member.committed(p.scene.b, dict.fromkeys(reversed(p.scene.parts), 1))


@operation()
def refused(p: Party) -> Steps:
    yield from ()
    return p.ledger.member.refused(p.scene.a, dict.fromkeys(p.scene.parts, 2), "ILLEGAL_GENERATION")


# -- records that retention took ------------------------------------------------------------------------------------------


@operation()
def record_lost_by_a(p: Party) -> Steps:
    yield from ()
    return p.ledger.member.record_lost(p.scene.a, dict.fromkeys(p.scene.parts, OffsetRange(20, 23)))


@operation()
def record_lost_by_b(p: Party) -> Steps:
    """Later, when retention has taken more."""
    yield from ()
    return p.ledger.member.record_lost(p.scene.b, dict.fromkeys(reversed(p.scene.parts), OffsetRange(20, 25)))
