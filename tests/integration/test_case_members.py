"""Cases from the field that concern members at work: cases 5, 8, 23, 27, 29, 32 and 43, on real services.

One leader and one evidence check serve the whole module; each test has a topic and a group of its own.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from confluent_kafka import Consumer
from conftest import create_topic, unique
from outcomes import await_settled, committed, deviations, evidence_checks, new_database, unsettled
from seams import seamed
from world import Effects, Running, World, eventually, make_world

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.errors import Fenced, NoLeader
from airflow_kafka_exactly.protocol.claims import CheckReference, CommitCode
from airflow_kafka_exactly.protocol.record import Record
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.until import Ending, Until

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


@dataclass(kw_only=True)
class Tended(World):
    """Its members end with the test, however that ends."""

    running: list[Running] = field(default_factory=list)

    def run(self, *arguments: Any, **more: Any) -> Running:
        self.running.append(super().run(*arguments, **more))
        return self.running[-1]


@pytest.fixture
def world(shared: World) -> Iterator[Callable[..., World]]:
    running: list[Running] = []

    def make(partitions: int, **changes: Any) -> World:
        topic = create_topic(shared.kafka, unique("topic"), partitions, {})
        made = Tended(kafka=shared.kafka, services=shared.services, topic=topic, running=running)
        return replace(made, **changes)

    yield make
    for member in running:
        member.stop()
    for member in running:
        member.thread.join(30)
    CHECKS.clear()


def checked(world: World, check: Callable[[Record], bool | None]) -> CheckReference:
    CHECKS[world.group] = check
    return CheckReference(path=world.group, effect_timeout_s=0.0)


class Rebalances:
    """What the client says of its group, from its statistics: counted per client, added up."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def config(self) -> dict[str, Any]:
        return {"statistics.interval.ms": 100, "stats_cb": self._told}

    def _told(self, statistics: str) -> None:
        said = json.loads(statistics)
        self._counts[said["name"]] = said.get("cgrp", {}).get("rebalance_cnt", 0)

    @property
    def count(self) -> int:
        return sum(self._counts.values())

    @property
    def clients(self) -> int:
        return len(self._counts)


# -- offset commits ----------------------------------------------------------------------------------------------------


def test_case_05_without_records_nothing_is_committed(world: Callable[..., World]) -> None:
    """A group's first member says once where the group begins; after that there is nothing to say."""
    asked: list[Any] = []

    def hook(place: str, call: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        if place == "consumer.commit":
            asked.append(arguments[0])
        return call()

    here = world(2, wrap=lambda ports: seamed(ports, hook))
    for done in (
        lambda _: len(committed(here)) == 2,
        lambda m: len(m.membership.poller.hand.partitions()) == 2,
    ):
        member = here.run("dag.task", UserFunction(apply=Effects()), FOREVER)
        eventually("it is there", lambda done=done, member=member: done(member))
        member.stop()
        member.join()  # its last offset commit is behind it
        assert all(asked), "an empty offset commit is not even asked for"
        assert {offset for due in asked for offset, _ in due.values()} <= {0}
        begun, asked[:] = list(asked), []
    assert begun == [], "the second one has nothing to say"


def test_case_29_what_is_lost_is_not_committed_and_becomes_an_orphan_commit(
    world: Callable[..., World],
) -> None:
    """Kafka gives the slot to an intruder while a record runs. The applied range is an orphan commit, with its reason, until
    the member, whose life is still the current one, has its place again."""
    effects, go_on, due = Effects(), threading.Event(), list[Any]()
    let_through = threading.Event()

    def hook(place: str, call: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        if place != "consumer.commit" or let_through.is_set():
            return call()
        due.append(dict(arguments[0]))
        return dict.fromkeys(arguments[0], (CommitCode.RETRY, "_TIMED_OUT"))

    def slowly(record: Record) -> None:
        if record.offset == 5:
            assert go_on.wait(60)
        effects(record)

    here = world(1, batch=5, wrap=lambda ports: seamed(ports, hook))
    here.produce([b"x"] * 10)
    member = here.run("dag.task", UserFunction(apply=slowly), FOREVER, check=checked(here, effects.check))
    eventually("five records are applied and not committed", lambda: any(d for d in due))
    with wiring.shared_ledger(here.services.ledger) as ledgers:
        intruder = intrude(here, "dag.task")
        eventually("the place is lost", lambda: not member.membership.poller.hand.partitions())
        let_through.set()
        (orphan,) = eventually("an orphan commit", lambda: ledgers.report.orphans(here.group, False))
        assert (orphan["start"], orphan["stop"], orphan["reason"]) == (0, 5, "PARTITION_LOST")
        assert not committed(here), "no offset has left the process"
        intruder.close()
        go_on.set()
        await_settled(here)
        (orphan,) = ledgers.report.orphans(here.group, False)
    assert orphan["state"] == "member"
    assert effects.seen == {(0, offset): 1 for offset in range(10)}


def intrude(world: World, slot: str) -> Consumer:
    """A consumer with the same `group.instance.id`: Kafka fences the older one."""
    intruder = Consumer(
        {
            "bootstrap.servers": world.kafka,
            "group.id": world.group,
            "group.instance.id": slot,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 6000,
            "enable.auto.commit": False,
        }
    )
    intruder.subscribe([world.topic])
    eventually("the intruder is in", lambda: intruder.poll(0.1) or intruder.assignment())
    return intruder


# -- rebalances --------------------------------------------------------------------------------------------------------


def test_case_08_a_thousand_trickling_records_cause_no_rebalance(world: Callable[..., World]) -> None:
    seen, effects = Rebalances(), Effects()
    here = world(2, kafka_config=seen.config())
    function = UserFunction(apply=effects)
    members = [here.run(f"dag.task[{i}]", function, FOREVER) for i in range(2)]
    eventually(
        "both have a partition", lambda: all(len(m.membership.poller.hand.partitions()) == 1 for m in members)
    )
    eventually("both have said so", lambda: seen.clients == 2)
    time.sleep(0.3)  # three more statistics
    before = seen.count
    for burst in range(50):
        here.produce([b"x"] * 10, 0)
        here.produce([b"x"] * 10, 1)
        if burst == 25:  # the next process of a slot takes the place over: no change of membership
            members[1].stop()
            members[1].join()
            members[1] = here.run("dag.task[1]", function, FOREVER)
    await_settled(here)
    time.sleep(0.3)
    assert len(effects.seen) == 1000
    assert not effects.repeated
    # A client counts its own first assignment; only the first member's count says whether the group was disturbed.
    assert seen.count - before <= 1
    assert seen.clients == 3


def test_case_27_a_function_may_run_longer_than_max_poll_interval(world: Callable[..., World]) -> None:
    seen, effects, started = Rebalances(), Effects(), threading.Event()
    here = world(1, kafka_config={**seen.config(), "max.poll.interval.ms": 7000})

    def long(record: Record) -> None:
        if record.offset == 0:
            started.set()
            until = time.monotonic() + 9.0  # the user's own time
            while time.monotonic() < until:
                time.sleep(0.1)
        effects(record)

    here.produce([b"long", b"short"])
    member = here.run("dag.task", UserFunction(apply=long), here.until_end())
    assert started.wait(30)
    eventually("the client has told of its group", lambda: seen.count)
    before = seen.count
    assert member.ended() is Ending.END
    assert seen.count == before
    assert effects.seen == {(0, 0): 1, (0, 1): 1}
    assert not unsettled(here)


def test_case_32_a_revoked_record_that_still_runs_has_one_effect(world: Callable[..., World]) -> None:
    """The new owner learns that it is running, waits, and goes on with the others."""
    here = world(2, batch=1, member={"revoke_budget_s": 0.5})
    moving = partition_that_moves(here)
    here = replace(here, group=unique("group"))
    effects, ran_by_b, entered, go_on = Effects(), Effects(), threading.Event(), threading.Event()

    def blocks(record: Record) -> None:
        entered.set()
        assert go_on.wait(60)
        effects(record)

    def quick(record: Record) -> None:
        ran_by_b(record)
        effects(record)

    here.produce([b"x"] * 3, moving)
    reference = checked(here, effects.check)
    here.run("a", UserFunction(apply=blocks), FOREVER, check=reference)
    assert entered.wait(30)
    here.run("b", UserFunction(apply=quick), FOREVER, check=reference)
    with wiring.shared_ledger(here.services.ledger) as ledgers:

        def doubt() -> Any:
            return [d for d in ledgers.report.doubts(here.group, False) if d["start"] == 0]

        def durable() -> Any:  # its payload comes after the claim, in a statement of its own
            return [d for d in doubt() if d["durable"]]

        (told,) = eventually("the new owner is told that it is running", durable)
        assert (told["kind"], told["slot"]) == ("collision", "a")
        eventually("it goes on with the others", lambda: ran_by_b.seen.keys() == {(moving, 1), (moving, 2)})
        assert not effects.seen[moving, 0], "and waits for this one"
        assert doubt()[0]["state"] == "open", "silence is no proof"
        go_on.set()
        await_settled(here)
        (told,) = doubt()
    assert (told["outcome"], told["decided_by"]) == ("discarded", "ledger")
    assert effects.seen == {(moving, offset): 1 for offset in range(3)}


def partition_that_moves(world: World) -> int:
    """From slot "a", which has both, to slot "b" when it joins."""
    members = [world.run(slot, UserFunction(apply=Effects()), FOREVER) for slot in ("a",)]
    eventually("a has both", lambda: len(members[0].membership.poller.hand.partitions()) == 2)
    members.append(world.run("b", UserFunction(apply=Effects()), FOREVER))
    moved = eventually("b has one", members[1].membership.poller.hand.partitions)
    for member in members:
        member.stop()
        member.join()
    (partition,) = moved
    return int(partition.number)


# -- processes that fail -----------------------------------------------------------------------------------------------


def test_case_23_the_same_task_instance_twice_has_one_effect_per_record(world: Callable[..., World]) -> None:
    """Both copies work at once; the older one stops at the fence, the newer one finishes."""
    here = world(3)
    effects, entered = Effects(), threading.Event()

    def slowly(record: Record) -> None:
        entered.set()
        time.sleep(0.003)
        effects(record)

    for partition in range(3):
        here.produce([b"x"] * 200, partition)
    function, reference = UserFunction(apply=slowly), checked(here, effects.check)
    older = here.run("dag.task", function, FOREVER, owner="dag/run/task", check=reference)
    assert entered.wait(30)
    here.run("dag.task", function, FOREVER, owner="dag/run/task", check=reference)
    older.join()
    assert isinstance(older.failure, Fenced)
    await_settled(here)
    assert effects.seen == {(p, offset): 1 for p in range(3) for offset in range(200)}


class Killed(BaseException):
    """As Airflow ends a task from outside, in the middle of the function."""


def test_case_43_a_failed_run_leaves_the_record_behind_as_a_doubt(world: Callable[..., World]) -> None:
    """The offset stays, or passes a record whose payload is stored; never neither."""
    here, effects = world(1), Effects()

    def dies(record: Record) -> None:
        if record.offset == 3:
            raise Killed
        effects(record)

    here.produce([b"x"] * 10)
    reference = checked(here, effects.check)
    first = here.run("dag.task", UserFunction(apply=dies), FOREVER, check=reference)
    first.join()
    assert isinstance(first.failure, Killed)
    assert not [d for d in deviations(here) if not d["pending"]], "S2"
    with wiring.shared_ledger(here.services.ledger) as ledgers:
        (doubt,) = ledgers.report.doubts(here.group, False)
        assert (doubt["start"], doubt["kind"], doubt["durable"]) == (3, "raised", True)
    here.run("dag.task", UserFunction(apply=effects), FOREVER, check=reference)
    await_settled(here)
    assert effects.seen == {(0, offset): 1 for offset in range(10)}


def test_case_21_a_missing_leader_is_named_with_the_command_that_starts_one(
    world: Callable[..., World],
) -> None:
    here = world(1, leader_timeout_s=2.0)
    nobody = replace(here.services.election, root=f"/{unique('root')}")
    here = replace(here, services=replace(here.services, election=nobody))
    here.produce([b"x"])
    effects = Effects()
    member = here.run("dag.task", UserFunction(apply=effects), FOREVER)
    with pytest.raises(NoLeader, match="airflow kafka-exactly coordinator"):
        member.ended()
    assert not effects.seen
