"""Kafka, ZooKeeper and PostgreSQL are each stopped for 30 s, longer than every lease, and started again while members work.

The three outages run side by side, in a world of their own each, because what takes time is the outage.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import create_topic, unique
from localstack import Kafka, PostgreSQL, Service, ZooKeeper
from outcomes import S2Watch, await_settled, deviations, evidence_checks, new_database
from world import Effects, Running, World, eventually, make_world

from airflow_kafka_exactly.protocol.claims import CheckReference
from airflow_kafka_exactly.protocol.record import Record
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.until import Until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

OUTAGE_S = 30.0
PARTITIONS, BEFORE, AFTER = 2, 2000, 50
SERVICES: dict[str, Callable[[Path], Service]] = {
    "Kafka": Kafka,
    "ZooKeeper": ZooKeeper,
    "PostgreSQL": PostgreSQL,
}


@dataclass(kw_only=True)
class Survived:
    """What came of one outage."""

    effects: Effects
    members: list[Running]
    deviations: object
    settled_after_s: float


@pytest.fixture(scope="module")
def survived(
    kafka: str, zookeeper: str, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Survived]]:
    addresses = {"Kafka": kafka, "ZooKeeper": zookeeper, "PostgreSQL": postgres}

    def run(name: str) -> Survived:
        service = SERVICES[name](tmp_path_factory.mktemp(name))
        try:
            service.start()
            return outage(service, {**addresses, name: service.address})
        finally:
            service.remove()

    with ThreadPoolExecutor(len(SERVICES)) as pool:
        running = {name: pool.submit(run, name) for name in SERVICES}
        yield lambda name: running[name].result()


def outage(service: Service, addresses: dict[str, str]) -> Survived:
    effects = Effects()

    def apply(record: Record) -> None:
        time.sleep(0.002)
        effects(record)

    with contextlib.ExitStack() as stack:
        database = stack.enter_context(new_database(addresses["PostgreSQL"]))
        topic = create_topic(addresses["Kafka"], unique("topic"), PARTITIONS, {})
        world = make_world(addresses["Kafka"], addresses["ZooKeeper"], database, topic)
        produce(world, BEFORE)
        stack.enter_context(world.coordinator())
        stack.enter_context(evidence_checks(world.services, lambda _: effects.check))
        stack.enter_context(S2Watch(world))
        members = work(world, UserFunction(apply=apply, check=effects.check), stack)
        eventually("they are in the middle of it", lambda: len(effects.seen) > 200)
        service.stop()
        time.sleep(OUTAGE_S)  # the case is an outage of this length
        service.start()
        back = time.monotonic()
        produce(world, AFTER)
        await_settled(world, 120.0)
        return Survived(
            effects=effects,
            members=members,
            deviations=deviations(world),
            settled_after_s=time.monotonic() - back,
        )


def produce(world: World, records: int) -> None:
    for partition in range(PARTITIONS):
        world.produce([b"x"] * records, partition)


def work(world: World, function: UserFunction, stack: contextlib.ExitStack) -> list[Running]:
    reference = CheckReference(path="check", effect_timeout_s=0.0)
    members = [world.run(f"dag.task[{i}]", function, Until(to_end=False), check=reference) for i in range(2)]
    for member in members:
        stack.callback(member.join)
        stack.callback(member.stop)
    return members


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_lost_when_a_service_is_away_for_half_a_minute(
    survived: Callable[[str], Survived], name: str
) -> None:
    one = survived(name)
    assert one.effects.seen == {(p, offset): 1 for p in range(PARTITIONS) for offset in range(BEFORE + AFTER)}
    assert not one.deviations, "case 1"
    for member in one.members:
        assert "Stopped" in repr(member.failure), "it has worked until it was told to stop"
