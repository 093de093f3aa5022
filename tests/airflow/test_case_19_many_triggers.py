"""Case 19: 200 of our triggers start at once in one event loop, on real Kafka, ZooKeeper and PostgreSQL; another's goes on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stage
from confluent_kafka import Consumer
from conftest import create_topic, unique
from outcomes import new_database
from world import World, make_world

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.descriptors import PRICE, open_now
from airflow_kafka_exactly.protocol.claims import LifeKind
from airflow_kafka_exactly.protocol.summary import Summary
from airflow_kafka_exactly.runtime.membership import Membership
from airflow_kafka_exactly.runtime.until import Until
from airflow_kafka_exactly.triggers import ConsumeTrigger

pytestmark = pytest.mark.integration

JOINING, BUSY, NO_CONNECTION, WRONG_TIMEOUT, NO_TOPIC = 20, 40, 60, 60, 20
TICK_S = 0.01
LONGEST_TICK_S = 2.0
"""Far above what the loop may be held for (case 20 measures that), far below a loop that is stuck."""


@pytest.fixture(params=[1])
def world(
    request: pytest.FixtureRequest, zookeeper: str, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """On so many brokers, each of which leads a partition of the topic."""
    kafka = request.getfixturevalue("kafka" if request.param == 1 else "kafka_cluster")
    topic = create_topic(kafka, unique("topic"), request.param, {})
    with new_database(postgres) as database:
        made = make_world(kafka, zookeeper, database, topic)
        stage.define(monkeypatch, stage.connections(made))
        stage.configure(monkeypatch, lease_s=45, lease_margin_s=5)
        with made.coordinator():
            yield made


def arguments(world: World, slot: str, **more: Any) -> dict[str, Any]:
    given = {
        "kafka_config_id": stage.KAFKA,
        "group_id": world.group,
        "topics": [world.topic],
        "slot": slot,
        "owner": slot,
        "session_timeout_s": 45.0,
        "max_batch_records": 100,
        "on_busy": "fail",
        "adopt_offsets": False,
        "until": Until(to_end=False).as_dict(),
        "summary": Summary().as_dict(),
        "deadline": None,
    }
    return {**given, **more}


def two_hundred(world: World) -> dict[str, list[ConsumeTrigger]]:
    """By what should come of them. No constructor raises, whatever it is given: that would end the triggerer."""
    wrong = {
        "is not defined": (NO_CONNECTION, {"kafka_config_id": "nowhere"}),
        "session_timeout_s": (WRONG_TIMEOUT, {"session_timeout_s": 1.0}),
        "no_such_topic": (NO_TOPIC, {"topics": ["no_such_topic"]}),
        "is held by another task": (BUSY, {"slot": "busy"}),
    }
    found = {
        said: [ConsumeTrigger(**{**arguments(world, f"wrong-{number}"), **more}) for number in range(many)]
        for said, (many, more) in wrong.items()
    }
    found["joins"] = [ConsumeTrigger(**arguments(world, f"joins-{n}")) for n in range(JOINING)]
    ConsumeTrigger()  # what lacks everything
    return found


@contextlib.contextmanager
def somebody_in(world: World, slot: str) -> Iterator[None]:
    """A life of another task, so that the slot is busy."""
    settings = world.member_settings(slot, owner="another task")
    with (
        wiring.member_ports(world.services, settings.kafka, guarded=False) as ports,
        Membership(ports, settings, LifeKind.WORKER, Summary()),
    ):
        yield


async def first_event(trigger: ConsumeTrigger) -> Any:
    """As a triggerer runs it, with `cleanup` at the end, however it comes."""
    try:
        async for event in trigger.run():
            return event.payload
    finally:
        await trigger.cleanup()


class Foreign:
    """Somebody else's trigger in the same event loop."""

    def __init__(self) -> None:
        self.ticks, self.longest = 0, 0.0

    async def tick(self) -> None:
        at = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            self.longest, at = max(self.longest, now - at), now
            self.ticks += 1


async def until(what: str, condition: Callable[[], Any], deadline_s: float = 45.0) -> None:
    limit = time.monotonic() + deadline_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < limit, f"after {deadline_s:.0f} s still not: {what}"
        await asyncio.sleep(0.1)


def in_kafka(world: World) -> int:
    """Members of the group that Kafka knows of, without the one that keeps a slot busy."""
    with wiring.member_ports(world.services, world.kafka_settings(), guarded=False) as ports:
        return len([slot for slot in ports.admin.instances(world.group) if slot.startswith("joins-")])


def waiting(world: World) -> int:
    with wiring.shared_ledger(world.services.ledger) as ledgers:
        members = ledgers.report.status()["members"]
    return sum((m["group_id"], m["kind"], m["state"]) == (world.group, "trigger", "current") for m in members)


def threads_of_ours() -> list[str]:
    ours = ("kafka-exactly-joins", "joins-", "kafka-exactly-wrong", "wrong-")
    return [t.name for t in threading.enumerate() if t.name.startswith(ours)]


async def test_case_19_two_hundred_triggers_that_start_at_once_leave_another_alone(world: World) -> None:
    """20 of them join the group with real consumers (200 would be too many for a small machine). Those that lack a topic, have a
    wrong argument, or find their slot busy end by themselves, with an event that says why; those whose connection Airflow
    does not give wait for it, because a worker has read it."""
    with somebody_in(world, "busy"):
        triggers, foreign = two_hundred(world), Foreign()
        assert sum(map(len, triggers.values())) == 200
        ticking = asyncio.create_task(foreign.tick())
        tasks = {said: [asyncio.create_task(first_event(t)) for t in some] for said, some in triggers.items()}
        joined, missing = tasks.pop("joins"), tasks.pop("is not defined")
        events = {said: await asyncio.wait_for(asyncio.gather(*some), 60) for said, some in tasks.items()}
        for said, some in events.items():
            assert Counter(said in event["error"] for event in some) == {True: len(some)}, some[0]
        await until("the right ones wait", lambda: waiting(world) == in_kafka(world) == JOINING)
        left = [*joined, *missing]
        assert not [task for task in left if task.done()]
        for task in left:
            task.cancel()
        ended = await asyncio.gather(*left, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)
        await until("nothing of ours runs any more", lambda: not threads_of_ours() and waiting(world) == 0)
        before = foreign.ticks
        await until("the other goes on", lambda: foreign.ticks > before)
        assert not ticking.done()
        ticking.cancel()
    assert foreign.longest < LONGEST_TICK_S, f"it stood still for {foreign.longest:.2f} s"


# -- what one costs: counts, not times, against a bare consumer of Kafka's client in the same run ---------------------------

MANY = 10
WARM = 4
"""So many wait before it is counted: then everything that is made once a process is there."""
MAY_COST_MORE = 1
QUIET_S = 1.5


def cost() -> Counter[str]:
    """The process's threads, those of libraries too, and its descriptors."""
    return Counter(threads=len(list(Path("/proc/self/task").iterdir())), descriptors=open_now())


async def settled() -> Counter[str]:
    """When it has not grown for a while: the client connects to each broker when it has something to ask there."""
    most, until = cost(), time.monotonic() + QUIET_S
    while time.monotonic() < until:
        await asyncio.sleep(0.05)
        now = cost()
        if any(now[what] > most[what] for what in now):
            most, until = now | most, time.monotonic() + QUIET_S
    return most


def each(before: Counter[str], after: Counter[str]) -> dict[str, float]:
    return {what: (after[what] - before[what]) / MANY for what in after}


async def bare(world: World) -> dict[str, float]:
    before, consumers = await settled(), []
    for n in range(MANY):
        consumers.append(Consumer({"bootstrap.servers": world.kafka, "group.id": f"{world.group}-bare-{n}"}))
        consumers[-1].subscribe([world.topic])
    limit = time.monotonic() + 60
    while not all(one.assignment() for one in consumers):
        assert time.monotonic() < limit, "bare consumers get no partition"
        for one in consumers:
            await asyncio.to_thread(one.poll, 0.02)
    found = each(before, await settled())
    for one in consumers:
        one.close()
    return found


def waits(trigger: ConsumeTrigger) -> bool:
    waiter = trigger._waiter
    poller = getattr(waiter and waiter._membership, "poller", None)
    return bool(poller and poller.hand.partitions())


async def start(world: World, first: int, many: int) -> list[asyncio.Task[object]]:
    """Each in a group of its own, so that each gets a partition."""
    slots = [f"waits-{n}" for n in range(first, first + many)]
    triggers = [ConsumeTrigger(**arguments(world, s, group_id=f"{world.group}-{s}")) for s in slots]
    tasks = [asyncio.create_task(first_event(trigger)) for trigger in triggers]
    await until("all of them wait", lambda: all(map(waits, triggers)), 60)
    return tasks


@pytest.mark.parametrize("world", [1, 3], indirect=True, ids=["one broker", "three brokers"])
async def test_a_waiting_trigger_costs_a_bare_consumer_and_one_thread_more(world: World) -> None:
    alone = await bare(world)
    tasks = await start(world, 0, WARM)
    before = await settled()
    tasks += await start(world, WARM, MANY)
    ours = each(before, await settled())
    names = Counter(t.name.rstrip("0123456789") for t in threading.enumerate())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert ours["descriptors"] <= alone["descriptors"] + MAY_COST_MORE, f"{ours}, bare {alone}"
    assert ours["threads"] <= alone["threads"] + MAY_COST_MORE, f"{ours}, bare {alone}, {names}"
    assert ours["descriptors"] <= PRICE
    print(f"a waiting trigger: {ours}, a bare consumer: {alone}")
