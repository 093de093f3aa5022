"""Counterexamples of the protocol's model, on whole members and real services: those that a story about the ledger alone cannot
tell. (1) to (8), F1, F2, F3 and F5 are told to both ledgers in `tests/contracts/ledger`; F4 is about business keys, which this
version does not have: `identity` refuses everything but "offset".
"""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import victim
from conftest import create_topic, unique
from outcomes import EffectTable, await_settled, committed, deviations, evidence_checks, new_database
from seams import seamed
from world import Effects, Running, World, eventually, make_world

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.errors import Fenced
from airflow_kafka_exactly.protocol.claims import CheckReference, Decision, Verdict
from airflow_kafka_exactly.protocol.record import Record
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.until import Until

pytestmark = pytest.mark.integration

FOREVER = Until(to_end=False)
CHECKS: dict[str, Callable[[Record], bool | None]] = {}
"""By the group's name."""


@pytest.fixture(scope="module")
def shared(kafka: str, zookeeper: str, postgres: str) -> Iterator[World]:
    with new_database(postgres) as database:
        world = make_world(kafka, zookeeper, database, "")
        with world.coordinator(), evidence_checks(world.services, lambda found: CHECKS[found.path]):
            yield world


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    topic = create_topic(shared.kafka, unique("topic"), 1, {})
    yield replace(shared, topic=topic, group=unique("group"))
    CHECKS.clear()


def checked(world: World, check: Callable[[Record], bool | None]) -> CheckReference:
    CHECKS[world.group] = check
    return CheckReference(path=world.group, effect_timeout_s=0.0)


def stop(*members: Running) -> None:
    for member in members:
        member.stop()
    for member in members:
        member.join()


def doubts(world: World) -> list[Any]:
    with wiring.shared_ledger(world.services.ledger) as ledgers:
        return list(ledgers.report.doubts(world.group, False))


# -- 9: a process that is frozen between its last look at the trust window and the effect ------------------------------------


def test_counterexample_9_the_guard_ends_a_frozen_worker_before_its_effect_can_be_repeated(
    world: World,
) -> None:
    """It would wake after its record was judged and redone. The sibling ends it when the trust window does (S1 c)."""
    world.produce([b"x"] * 10)
    table = EffectTable(world.services.ledger.conninfo, world.group)
    reference = checked(world, table.check)
    frozen = victim.start(world, "frozen")
    try:
        assert frozen.wait(90) == -signal.SIGKILL, "nobody but its guard has sent that"
    finally:
        frozen.kill()
    assert (0, victim.EFFECT_AT) not in table.seen
    function = UserFunction(apply=table, check=table.check)
    successor = world.run("dag.task", function, FOREVER, owner="dag/run/task", check=reference)
    await_settled(world)
    stop(successor)
    assert table.seen == {(0, offset): 1 for offset in range(10)}
    table.close()


@dataclass
class Target:
    """A target of effects that may be able to refuse the token of an earlier claim (S1 b)."""

    refuses: bool
    effects: Counter[int] = field(default_factory=Counter)
    newest: dict[int, int] = field(default_factory=dict)

    def write(self, record: Record) -> None:
        token = record.fencing_token.claim_id
        if self.refuses and token < self.newest.get(record.offset, 0):
            raise PermissionError(f"claim {token} is over")
        self.newest[record.offset] = token
        self.effects[record.offset] += 1

    def check(self, record: Record) -> bool:
        return self.effects[record.offset] > 0


@pytest.mark.parametrize("refuses", [True, False])
def test_counterexample_9_a_zombies_effect_is_refused_by_its_token(world: World, refuses: bool) -> None:
    """The older of two processes hangs before its effect until that was judged and redone. A target that refuses old tokens
    has one effect. Without that, without a guard (as here) and without the ledger's transaction there are two, which is the
    limit that S1 states, and the reason for its three conditions."""
    target, entered, wake = Target(refuses), threading.Event(), threading.Event()

    def hangs(record: Record) -> None:
        entered.set()
        assert wake.wait(90)
        target.write(record)

    world.produce([b"x"])
    reference = checked(world, target.check)
    zombie = world.run("dag.task", UserFunction(apply=hangs), FOREVER, owner="dag/run/task", check=reference)
    assert entered.wait(30)
    function = UserFunction(apply=target.write, check=target.check)
    newer = world.run("dag.task", function, FOREVER, owner="dag/run/task", check=reference)
    await_settled(world)
    assert target.effects == {0: 1}
    wake.set()
    zombie.join()
    assert isinstance(zombie.failure, Fenced), "it learns that it is over, and stops"
    stop(newer)
    assert target.effects == {0: 1 if refuses else 2}
    assert [d["outcome"] for d in doubts(world)] == ["redone"]


# -- F1 to F4 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [True, False])
def test_f1_a_raised_record_has_one_effect_whenever_it_was_raised(world: World, after: bool) -> None:
    """(a) after its effect: not released because it is in no claim; (b) before it: not settled by a later mark."""
    effects, again = Effects(), threading.Event()

    def raises(record: Record) -> None:
        if record.offset == 1 and not again.is_set():
            again.set()
            if after:
                effects(record)
            raise ValueError
        effects(record)

    world.produce([b"x"] * 3)
    reference = checked(world, effects.check)
    member = world.run("dag.task", UserFunction(apply=raises), FOREVER, check=reference)
    await_settled(world)
    stop(member)
    assert effects.seen == {(0, offset): 1 for offset in range(3)}
    assert [(d["kind"], d["outcome"]) for d in doubts(world)] == [
        ("raised", "discarded" if after else "redone")
    ]


def test_f2_a_redo_that_is_given_back_is_released_again(world: World) -> None:
    """A member that is told to stop when it has claimed a released doubt and not begun it."""
    effects, claimed = Effects(), threading.Event()
    here = replace(world)

    def hook(place: str, call: Callable[[], Any], _: tuple[Any, ...]) -> Any:
        answer = call()
        if place == "ledger.claim_released" and answer:
            claimed.set()
            first.stop()
        return answer

    def raises(record: Record) -> None:
        raise ValueError(record.offset)

    here.wrap = lambda ports: seamed(ports, hook)
    world.produce([b"x"])
    first = here.run("dag.task", UserFunction(apply=raises), FOREVER, check=checked(here, lambda _: None))
    with wiring.shared_ledger(world.services.ledger) as ledgers:
        (doubt,) = eventually("it is raised", lambda: doubts(world))
        ruling = Decision(
            doubt_id=doubt["doubt_id"],
            version=doubt["version"],
            verdict=Verdict.NOT_APPLIED,
            by="a person",
            evidence={},
        )
        assert ledgers.evidence.decide(ruling)
    first.join()
    assert claimed.is_set()
    assert [d["state"] for d in doubts(world)] == ["released"]
    assert not [d for d in deviations(world) if not d["pending"]], "S2"
    second = world.run("dag.task", UserFunction(apply=effects), FOREVER, check=checked(world, effects.check))
    await_settled(world)
    stop(second)
    assert effects.seen == {(0, 0): 1}
    assert [d["outcome"] for d in doubts(world)] == ["redone"]


class Dead(BaseException):
    """What a process that was killed does with every call."""


def test_f3_a_window_without_payload_stops_offsets_until_the_record_comes_again(world: World) -> None:
    """Nobody is there when the life is fenced. The leader, which alters the empty group's offset, stops at the doubt, too."""
    effects, dead = Effects(), threading.Event()
    here = replace(world)

    def hook(place: str, call: Callable[[], Any], _: tuple[Any, ...]) -> Any:
        if dead.is_set() and place != "consumer.close":
            raise Dead(place)
        return call()

    def dies(record: Record) -> None:
        if record.offset == 3:
            dead.set()
            raise Dead
        effects(record)

    here.wrap = lambda ports: seamed(ports, hook)
    world.produce([b"x"] * 10)
    reference = checked(world, effects.check)
    here.run("dag.task", UserFunction(apply=dies), FOREVER, check=reference).join()
    first = eventually("the dead life is fenced", lambda: doubts(world))[0]
    assert (first["kind"], first["durable"], first["state"]) == ("window", False, "open")
    eventually(
        "the leader has altered the offset", lambda: list(committed(world).values()) == [first["start"]]
    )
    assert [d["state"] for d in doubts(world)] == ["open"] * len(doubts(world)), (
        "a check has nothing to ask about"
    )
    second = world.run("dag.task", UserFunction(apply=effects), FOREVER, check=reference)
    await_settled(world)
    stop(second)
    assert effects.seen == {(0, offset): 1 for offset in range(10)}
