"""Coordinators on a real ZooKeeper, PostgreSQL, Kafka and gRPC."""

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from world import World, eventually, make_world

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.errors import NotLeading, Unavailable
from airflow_kafka_exactly.ports import LeaderLink
from airflow_kafka_exactly.protocol.claims import Life, LifeKind, Opening, OpenLife
from airflow_kafka_exactly.protocol.identity import range_digests
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.protocol.votes import Ballot, BallotPart, Hello, Vote
from airflow_kafka_exactly.runtime.coordinator import Coordinator

pytestmark = pytest.mark.integration


@pytest.fixture
def world(kafka: str, zookeeper: str, database: str, topic: Callable[..., str]) -> World:
    return make_world(kafka, zookeeper, database, topic(1))


@contextlib.contextmanager
def two(world: World) -> Iterator[tuple[Coordinator, Coordinator]]:
    """The first leads, the second follows it."""
    with world.coordinator() as first:
        eventually("the first leads", lambda: first.state().leads)
        with world.coordinator() as second:
            eventually("the second follows", lambda: second.state().follows)
            yield first, second


def open_life(world: World, slot: str) -> tuple[Life, Partition]:
    """A life in the ledger, with the topic's partition registered from offset 0."""
    with wiring.member_ports(world.services, world.kafka_settings(), guarded=False) as ports:
        topic_id = ports.admin.topics([world.topic])[world.topic].topic_id
        request = OpenLife(
            group_id=world.group,
            cluster_id="c",
            slot=slot,
            owner=slot,
            kind=LifeKind.WORKER,
            process="test",
            lease_s=world.services.lease.lease_s,
        )
        life = ports.ledger.open_life(request)
        partition = Partition(topic_id, 0, world.topic)
        ports.ledger.open_partitions(life, "c", [Opening(partition, 0, False)])
        return life, partition


def linked(world: World, coordinator: Coordinator, life: Life) -> LeaderLink:
    with wiring.member_ports(world.services, world.kafka_settings(), guarded=False) as ports:
        link = ports.channel.link(coordinator.state().address, life)
        link.hello(Hello(life, "c"))
        return link


def ballot(life: Life, partition: Partition, start: int, stop: int) -> Ballot:
    offsets = OffsetRange(start, stop)
    digests = range_digests("c", partition, offsets)
    return Ballot(life, (BallotPart(partition, offsets, np.arange(start, stop), digests),))


def votes(link: LeaderLink, asked: Ballot) -> set[int]:
    return set(link.vote(asked).votes[0].tolist())


def test_a_standby_takes_over_with_a_greater_epoch_and_what_it_followed(world: World) -> None:
    life, partition = open_life(world, "a")
    with two(world) as (first, second):
        link = linked(world, first, life)
        assert votes(link, ballot(life, partition, 0, 1000)) == {Vote.FRESH}
        epoch = first.state().epoch
        before = time.monotonic()
        first.stop()
        assert time.monotonic() - before < 3.0
        with pytest.raises((NotLeading, Unavailable)):
            link.vote(ballot(life, partition, 0, 1))
        eventually("the standby leads", lambda: second.state().leads, 10.0)
        assert second.state().epoch > epoch
        link = linked(world, second, life)
        assert votes(link, ballot(life, partition, 0, 1000)) == {Vote.FRESH}
        (group,) = second.state().groups
        assert group.positives == group.unfounded == 1000  # it knew them all, and asked the ledger about them


def test_an_overdue_life_is_fenced(world: World) -> None:
    life, _ = open_life(world, "a")
    with world.coordinator() as leader:
        eventually("it is fenced", lambda: leader.state().fenced == 1, 30.0)
        with wiring.shared_ledger(world.services.ledger) as ledgers:
            assert ledgers.leader.over([life]) == [life]


def test_case_20_votes_on_10_000_records_each_are_answered_in_bulk(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    life, partition = open_life(world, "a")
    with two(world) as (first, _):
        link = linked(world, first, life)
        began = time.monotonic()
        for start in range(0, 300_000, 10_000):
            assert votes(link, ballot(life, partition, start, start + 10_000)) == {Vote.FRESH}
        took = time.monotonic() - began
        record_property("votes_per_second_with_a_standby", round(300_000 / took))
        print(f"votes per second over gRPC with one standby: {300_000 / took:,.0f}")
        assert took < 30
