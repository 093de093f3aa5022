"""Cases 2 and 9: triggerers that are killed, and an event that is delivered twice, with processes of their own on real Kafka,
ZooKeeper and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hosted
import pytest
import stage
from airflow.sdk.exceptions import TaskDeferred
from conftest import create_topic, unique
from outcomes import EffectTable, await_settled, evidence_checks, new_database
from world import World, eventually, make_world

from airflow_kafka_exactly import wiring

pytestmark = pytest.mark.integration

PARTITIONS = 3


@pytest.fixture
def world(kafka: str, zookeeper: str, postgres: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    topic = create_topic(kafka, unique("topic"), PARTITIONS, {})
    with new_database(postgres) as database:
        made = make_world(kafka, zookeeper, database, topic)
        stage.define(monkeypatch, stage.connections(made))
        with made.coordinator():
            yield made


@pytest.fixture
def table(world: World) -> Iterator[EffectTable]:
    effects = EffectTable(world.services.ledger.conninfo, world.group)
    yield effects
    effects.close()


def task(world: World, session_timeout: float) -> dict[str, Any]:
    """The operator's arguments, as JSON."""
    return {
        "group_id": world.group,
        "topics": [world.topic],
        "kafka_config_id": stage.KAFKA,
        "apply_function": "hosted.apply",
        "apply_function_args": [world.services.ledger.conninfo, world.group],
        "until": "forever",
        "session_timeout": session_timeout,
        "effect_timeout": 0.0,
    }


def deferred(arguments: dict[str, Any]) -> dict[str, Any]:
    """What the trigger gets that a task which has caught up defers to."""
    operator = stage.KafkaExactlyOnceOperator(task_id="consume", **arguments)
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(stage.context())
    return sooner(caught.value.trigger.serialize()[1])


def sooner(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same, but the next stint defers sooner: this test has many."""
    return {**arguments, "until": {**arguments["until"], "defer_when_idle_s": 0.3}}


def waiting(world: World) -> list[int]:
    """Incarnations of the trigger whose life is current."""
    with wiring.shared_ledger(world.services.ledger) as ledgers:
        members = [m for m in ledgers.report.status()["members"] if m["group_id"] == world.group]
    return [m["incarnation"] for m in members if (m["kind"], m["state"]) == ("trigger", "current")]


# -- case 2 ------------------------------------------------------------------------------------------------------------

ROUNDS, KILLS_A_ROUND, RECORDS = 10, 2, 10_000


def test_case_02_ten_thousand_records_and_twenty_killed_triggerers(
    world: World, table: EffectTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each round one triggerer is killed while the task waits, and one that has just heard of records: right away, or
    after its event was made and before anybody heard it. Another goes on, and a worker process works a stint."""
    stage.configure(monkeypatch, lease_s=45, lease_margin_s=5)
    operator = task(world, session_timeout=45)
    arguments, portion, killed, begun = deferred(operator), RECORDS // ROUNDS, 0, 0
    with hosted.Host() as host:
        for number in range(ROUNDS):
            first = host.start(job="trigger", arguments=arguments)
            if number % 2:
                now = eventually("the trigger waits", lambda: waiting(world))
                assert now[0] > begun, "each trigger is a life of its own"
                begun = now[0]
            killed += hosted.kill(first)
            for index in range(PARTITIONS):
                world.produce([b"x"] * len(range(index, portion, PARTITIONS)), partition=index)
            second = host.start(job="trigger", arguments=arguments, stays=True)
            if number % 3:
                assert host.said(second)["ending"] == "records", "which nobody delivers"
            killed += hosted.kill(second)
            event = host.said(host.start(job="trigger", arguments=arguments))
            assert event["ending"] == "records"
            came = host.said(host.start(job="resume", operator=operator, event=event))
            assert "deferred" in came, came
            arguments = sooner(came["deferred"])
        await_settled(world)
    assert killed == ROUNDS * KILLS_A_ROUND == 20
    seen = table.seen
    assert len(seen) == RECORDS
    assert set(seen.values()) == {1}


# -- case 9 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_the_midst", [False, True], ids=["at once", "in the midst"])
def test_case_09_an_event_that_is_delivered_twice(
    world: World, table: EffectTable, monkeypatch: pytest.MonkeyPatch, in_the_midst: bool
) -> None:
    """Two schedulers start the same task instance with the same event, in two worker processes: one of them is fenced."""
    stage.configure(monkeypatch, lease_s=8, lease_margin_s=3, renew_every_s=1, fence_grace_s=1)
    operator = task(world, session_timeout=7)
    arguments = deferred(operator)
    with hosted.Host() as host, evidence_checks(world.services, lambda _: table.check):
        trigger = host.start(job="trigger", arguments=arguments)
        eventually("the trigger waits", lambda: waiting(world))
        for index in range(PARTITIONS):
            world.produce([b"x"] * 1000, partition=index)
        event = host.said(trigger)
        assert event["ending"] == "records"
        older = host.start(job="resume", operator=operator, event=event)
        if in_the_midst:
            eventually("it has begun", lambda: table.seen)
        newer = host.start(job="resume", operator=operator, event=event)
        assert len(table.seen) < PARTITIONS * 1000, "the older one is not done"
        said = [host.said(older), host.said(newer)]
        fenced = [answer for answer in said if "taken this slot over" in answer.get("failed", "")]
        others = [answer for answer in said if answer not in fenced]
        assert len(fenced) == 1, said
        assert not in_the_midst or fenced == said[:1], "the copy that came later goes on"
        assert "deferred" in others[0], said
        settle(world, host, operator, others[0]["deferred"], table)
    assert table.seen == {(index, offset): 1 for index in range(PARTITIONS) for offset in range(1000)}


def settle(
    world: World, host: hosted.Host, operator: dict[str, Any], arguments: dict[str, Any], table: EffectTable
) -> None:
    """The task goes on while there is something to redo."""
    while len(table.seen) < PARTITIONS * 1000:
        event = host.said(host.start(job="trigger", arguments=sooner(arguments)))
        came = host.said(host.start(job="resume", operator=operator, event=event))
        assert "deferred" in came, came
        arguments = came["deferred"]
    await_settled(world)
