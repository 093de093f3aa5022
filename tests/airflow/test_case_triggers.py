"""Cases 7, 10, 16 and 20: our triggers in an event loop, on real Kafka, ZooKeeper and PostgreSQL, as a triggerer runs them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import applied
import pytest
import stage
from airflow.exceptions import AirflowException
from airflow.sdk.exceptions import TaskDeferred
from conftest import create_topic, unique
from outcomes import await_settled, new_database
from world import World, make_world

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.adapters.postgres import Ledgers
from airflow_kafka_exactly.adapters.postgres.member import PostgresMemberLedger
from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.runtime.membership import Membership
from airflow_kafka_exactly.settings import LedgerSettings
from airflow_kafka_exactly.triggers import ConsumeTrigger, CoordinatorTrigger

pytestmark = pytest.mark.integration

SLOT = "dag.consume"
CLOSE_S = 5.0


@pytest.fixture(scope="module")
def shared(kafka: str, zookeeper: str, postgres: str) -> Iterator[World]:
    with new_database(postgres) as database:
        world = make_world(kafka, zookeeper, database, "")
        with world.coordinator():
            yield world


@pytest.fixture
def world(shared: World, monkeypatch: pytest.MonkeyPatch) -> World:
    topic = create_topic(shared.kafka, unique("topic"), 1, {})
    made = replace(shared, topic=topic, group=unique("group"))
    stage.define(monkeypatch, stage.connections(made))
    # No fence within a test, and a guard that does not end this process because the machine is busy.
    stage.configure(monkeypatch, lease_s=45, lease_margin_s=5)
    return made


async def deferred(world: World, **arguments: Any) -> ConsumeTrigger:
    """The trigger that a task which has caught up defers to, as a triggerer gets it: made anew from what was serialized."""
    operator = stage.operator(world, **{"until": "forever", "session_timeout": 45, **arguments})
    with pytest.raises(TaskDeferred) as caught:
        await asyncio.to_thread(operator.execute, stage.context())
    return copy_of(caught.value.trigger)


def copy_of(trigger: Any) -> ConsumeTrigger:
    path, arguments = trigger.serialize()
    assert path == "airflow_kafka_exactly.triggers.ConsumeTrigger"
    return ConsumeTrigger(**json.loads(json.dumps(arguments)))


async def first_event(trigger: Any) -> Any:
    """As a triggerer runs it, with `cleanup` at the end, however it comes."""
    try:
        async for event in trigger.run():
            return event.payload
    finally:
        await trigger.cleanup()


async def eventually(what: str, condition: Callable[[], Any], deadline_s: float = 60.0) -> Any:
    until = time.monotonic() + deadline_s
    while not (value := await asyncio.to_thread(condition)):
        assert time.monotonic() < until, f"after {deadline_s:.0f} s still not: {what}"
        await asyncio.sleep(0.02)
    return value


@contextlib.asynccontextmanager
async def running(trigger: Any) -> AsyncIterator[asyncio.Task[Any]]:
    task = asyncio.create_task(first_event(trigger))
    try:
        yield task
    finally:
        await cancelled(task)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def lives(world: World) -> list[Any]:
    with wiring.shared_ledger(world.services.ledger) as ledgers:
        return [m for m in ledgers.report.status()["members"] if m["group_id"] == world.group]


def waits(world: World) -> bool:
    """A trigger's life is the slot's current one, and Kafka has its member."""
    with wiring.member_ports(world.services, world.kafka_settings(), guarded=False) as ports:
        in_group = ports.admin.instances(world.group) == (SLOT,)
    return in_group and any(m["kind"] == "trigger" and m["state"] == "current" for m in lives(world))


def pollers() -> list[str]:
    """Threads that keep a member of this slot alive."""
    return [t.name for t in threading.enumerate() if t.name.startswith((f"{SLOT}-", f"kafka-exactly-{SLOT}"))]


# -- case 7 ------------------------------------------------------------------------------------------------------------


async def test_case_07_a_cancelled_trigger_frees_its_consumer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.configure(monkeypatch, lease_s=8, lease_margin_s=3, renew_every_s=1)
    trigger = await deferred(world, session_timeout=7)
    async with running(trigger) as task:
        await eventually("it waits", lambda: waits(world))
        await cancelled(task)
        await eventually("nobody polls", lambda: not pollers(), CLOSE_S)
    assert not lives(world), "the life has signed off"
    # Its place is kept for the slot's next process, but no longer than its session.
    await eventually("no group member lives on", lambda: empty(world), 7 + CLOSE_S)


def empty(world: World) -> bool:
    with wiring.member_ports(world.services, world.kafka_settings(), guarded=False) as ports:
        return ports.admin.instances(world.group) == ()


async def test_case_07_also_when_it_is_cancelled_while_it_opens(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = await deferred(world)
    opening, go_on = threading.Event(), threading.Event()

    def slowly(_: Membership) -> None:
        opening.set()
        assert go_on.wait(30)

    monkeypatch.setattr(Membership, "_enter_directory", slowly)
    async with running(trigger):
        await eventually("it opens", opening.is_set)
    go_on.set()
    await eventually("nobody polls", lambda: not pollers(), 2 * CLOSE_S)
    assert not lives(world)


# -- case 10 -----------------------------------------------------------------------------------------------------------


async def test_case_10_of_two_copies_of_a_trigger_one_is_fenced_and_says_nothing(world: World) -> None:
    """Two triggerers that both run one trigger: an event of the fenced copy would end the task, or fail it, under the other."""
    trigger = await deferred(world)
    async with running(copy_of(trigger)) as older:
        await eventually("the first waits", lambda: waits(world))
        first = max(m["incarnation"] for m in lives(world))
        async with running(copy_of(trigger)) as newer:
            await eventually(
                "the second has taken over", lambda: [m["incarnation"] for m in lives(world)] == [first + 1]
            )
            await eventually("and waits", lambda: waits(world))
            world.produce([b"x"] * 20)
            event = await asyncio.wait_for(asyncio.shield(newer), 60)
            assert event["ending"] == "records"
            assert not older.done(), "an end without an event would fail the task, too"
    operator = stage.operator(world, until="forever", idle_timeout=0.5, session_timeout=45)
    event["until"] = {**event["until"], "idle_timeout_s": 0.5, "defer_when_idle_s": None}
    summary = await asyncio.to_thread(operator.resume, stage.context(), event)
    assert summary["counts"]["applied"] == 20
    assert applied.of(world.topic) == {(0, offset): 1 for offset in range(20)}
    await asyncio.to_thread(await_settled, world)


async def test_case_10_a_trigger_whose_lease_ended_opens_another_life(world: World) -> None:
    """A triggerer that was frozen: fenced, but by nobody who goes on in its place."""
    trigger = await deferred(world)
    async with running(trigger) as task:
        await eventually("it waits", lambda: waits(world))
        first = max(m["incarnation"] for m in lives(world))
        with wiring.shared_ledger(world.services.ledger) as ledgers:
            end_lease = "update kafka_exactly.member_life set lease_until = now() - interval '1 second' where group_id = %s"
            await eventually(  # its renewals put the lease right again and again
                "the leader has fenced it",
                lambda: (
                    ledgers.leader._db.execute(end_lease, [world.group])
                    and first not in [m["incarnation"] for m in lives(world)]
                ),
            )
        await eventually(
            "it waits again", lambda: waits(world) and max(m["incarnation"] for m in lives(world)) > first
        )
        world.produce([b"x"])
        assert (await asyncio.wait_for(asyncio.shield(task), 60))["ending"] == "records"


async def test_a_trigger_that_loses_its_slot_to_another_dag_run_waits_for_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Overlapping runs: the first one's triggerer could not reach the ledger for a lease, and the second took the slot."""
    stage.configure(monkeypatch, lease_s=8, lease_margin_s=3, renew_every_s=1)
    first = await deferred(world, session_timeout=7)
    other = {**first.arguments, "owner": "dag/run 2/consume/-1"}
    cut_off, renew = threading.Event(), PostgresMemberLedger.renew

    def renewed(ledger: PostgresMemberLedger, life: Life, lease_s: float) -> None:
        if cut_off.is_set() and life.incarnation == mine:
            raise Unavailable("PostgreSQL", "test", "cut off")
        renew(ledger, life, lease_s)

    monkeypatch.setattr(PostgresMemberLedger, "renew", renewed)
    async with running(first) as waiting:
        await eventually("the first waits", lambda: waits(world))
        mine = max(m["incarnation"] for m in lives(world))
        async with running(ConsumeTrigger(**other)) as second:
            cut_off.set()
            await eventually("the second has the slot", lambda: mine not in current(world) and current(world))
            cut_off.clear()
            await eventually("the first has noticed", lambda: "taken over by" in caplog.text)
            assert not waiting.done()
            await cancelled(second)
        await eventually("the first has it again", lambda: waits(world) and max(current(world)) > mine + 1)
        world.produce([b"x"])
        assert (await asyncio.wait_for(asyncio.shield(waiting), 60))["ending"] == "records"


def current(world: World) -> list[int]:
    return [m["incarnation"] for m in lives(world) if m["state"] == "current"]


# -- outages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["consume", "announce"])
async def test_a_trigger_that_starts_while_the_ledger_is_away_waits_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A triggerer and its database that are restarted together: no waiting task may fail of that."""
    waiter = await deferred(world)
    trigger = waiter if kind == "consume" else CoordinatorTrigger(announce_every_s=0.1)
    opened, refused, there = wiring.open_ledger, threading.Semaphore(0), threading.Event()

    def open_ledger(settings: LedgerSettings) -> Ledgers:
        if there.is_set():
            return opened(settings)
        refused.release()
        raise Unavailable("PostgreSQL", settings.connection, "connection refused")

    monkeypatch.setattr(wiring, "open_ledger", open_ledger)
    async with running(trigger) as task:
        for _ in range(2):
            assert await asyncio.to_thread(refused.acquire, timeout=60)
        assert not task.done()
        there.set()
        if kind == "consume":
            await eventually("it waits for records", lambda: waits(world))
            world.produce([b"x"])
            assert (await asyncio.wait_for(asyncio.shield(task), 60))["ending"] == "records"
        else:
            await eventually(
                "it announces", lambda: "kafka-exactly-contender" in [t.name for t in threading.enumerate()]
            )
            assert not task.done()


# -- case 16 -----------------------------------------------------------------------------------------------------------


async def test_case_16_the_execution_timeout_goes_on_while_deferred(world: World) -> None:
    limit = timedelta(seconds=100)
    operator = stage.operator(world, until="forever", session_timeout=45, execution_timeout=limit)
    begun = time.time()
    with pytest.raises(TaskDeferred) as first:
        await asyncio.to_thread(operator.execute, stage.context())
    assert first.value.timeout is not None
    assert first.value.timeout <= limit - timedelta(seconds=time.time() - begun - 1)
    event = {
        "ending": "records",
        **{k: first.value.trigger.arguments[k] for k in ("summary", "until", "deadline")},
    }
    with pytest.raises(TaskDeferred) as second:
        await asyncio.to_thread(operator.resume, stage.context(), event)
    assert second.value.timeout < first.value.timeout, "each deferral has only what is left"
    assert second.value.trigger.arguments["deadline"] == pytest.approx(begun + limit.total_seconds(), abs=1)
    with pytest.raises(AirflowException, match="execution_timeout has passed"):
        operator.resume(stage.context(), {**event, "deadline": begun - 1})


async def test_case_16_the_idle_timeout_ends_a_wait(world: World) -> None:
    trigger = await deferred(world, idle_timeout=3.0)
    begun = time.monotonic()
    event = await asyncio.wait_for(first_event(trigger), 60)
    assert event["ending"] == "idle_timeout"
    assert time.monotonic() - begun >= 3.0
    operator = stage.operator(world, until="forever")
    assert operator.resume(stage.context(), event)["counts"]["deferrals"] == 1


# -- case 20 -----------------------------------------------------------------------------------------------------------

STALL_S = 0.05
ROUNDS = 4
CONTROL = """
import json, sys, time
stalls, at = [], time.monotonic()
while True:
    time.sleep(0.002)
    now = time.monotonic()
    if now - at > 0.02:
        print(json.dumps([at, now]), flush=True)
    at = now
"""


class Ticker:
    """Says when the loop did not come round for 50 ms, although another process did meanwhile."""

    def __init__(self) -> None:
        self.stalls: list[tuple[float, float]] = []

    async def tick(self) -> None:
        at = time.monotonic()
        while True:
            await asyncio.sleep(0.002)
            now = time.monotonic()
            if now - at > STALL_S:
                self.stalls.append((at, now))
            at = now

    def unexplained(self, noise: list[tuple[float, float]]) -> list[float]:
        """What is left of each stall without the time in which the machine did not run the other process either."""
        left = [
            stop - start - sum(max(0.0, min(stop, b) - max(start, a)) for a, b in noise)
            for start, stop in self.stalls
        ]
        return [stall for stall in left if stall > STALL_S]


LOADS_NOTHING = """
import sys
import airflow.triggers.base
before = set(sys.modules)
import airflow_kafka_exactly.triggers, airflow_kafka_exactly.evidence_trigger
print(*sorted(set(sys.modules) - before))
"""


def test_case_20_a_triggerer_that_imports_our_triggers_imports_nothing_else() -> None:
    """It does so in its event loop, once: no round of the measurement below would show it."""
    ran = subprocess.run([sys.executable, "-c", LOADS_NOTHING], capture_output=True, text=True, check=True)
    ours = {"airflow_kafka_exactly.triggers", "airflow_kafka_exactly.evidence_trigger"}
    assert set(ran.stdout.split()) - {"airflow_kafka_exactly"} == ours


async def test_case_20_no_call_of_ours_holds_the_event_loop(world: World) -> None:
    """Triggers start, wake for records, announce and are cancelled; a block that is ours would show in every round."""
    trigger = await deferred(world)
    found = []
    for _ in range(ROUNDS):
        control = await asyncio.to_thread(
            subprocess.Popen, [sys.executable, "-c", CONTROL], stdout=subprocess.PIPE, text=True
        )
        ticker = Ticker()
        ticking = asyncio.create_task(ticker.tick())
        async with running(CoordinatorTrigger(announce_every_s=0.1)), running(copy_of(trigger)) as woken:
            await eventually("it waits", lambda: waits(world))
            await asyncio.to_thread(world.produce, [b"x" * 1000] * 5000)
            assert (await asyncio.wait_for(asyncio.shield(woken), 60))["ending"] == "records"
        await eventually("nobody polls", lambda: not pollers(), 2 * CLOSE_S)
        await cancelled(ticking)
        control.terminate()
        said, _ = await asyncio.to_thread(control.communicate, timeout=30)
        noise = [tuple(json.loads(line)) for line in said.splitlines()]
        found.append(ticker.unexplained(noise))
        if not found[-1]:
            return
    pytest.fail(f"stalls of the event loop in every round, in seconds: {found}")


# -- whose a group is --------------------------------------------------------------------------------------------------


async def test_a_trigger_of_another_task_ends_with_the_reason(world: World) -> None:
    trigger = await deferred(world)
    assert (trigger.arguments["dag_id"], trigger.arguments["task_id"]) == ("dag", "consume")
    event = await first_event(ConsumeTrigger(**{**trigger.arguments, "dag_id": "da", "task_id": "g.consume"}))
    assert event["final"]
    assert "belongs to DAG 'dag', task 'consume'; this is DAG 'da', task 'g.consume'" in event["error"]
