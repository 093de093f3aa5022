"""Coordinators on a real ZooKeeper, PostgreSQL, Kafka and gRPC."""

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from localstack import PostgreSQL, ZooKeeper
from world import World, eventually, make_world

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.errors import NotLeading, Unavailable
from airflow_kafka_exactly.ports import LeaderLink
from airflow_kafka_exactly.protocol.claims import (
    ClaimPart,
    ClaimRequest,
    Life,
    LifeKind,
    Mark,
    Opening,
    OpenLife,
    Segment,
)
from airflow_kafka_exactly.protocol.identity import range_digests
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch, RawRecord
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


def test_s8_settled_records_of_a_closed_life_reach_the_offset_of_an_empty_group(world: World) -> None:
    world.produce([b"v"] * 10)
    life, partition = open_life(world, "a")
    with wiring.shared_ledger(world.services.ledger) as ledgers, world.coordinator() as leader:
        eventually("it leads", lambda: leader.state().leads)
        batch = PartitionBatch(
            partition, OffsetRange(0, 10), tuple(RawRecord(n, None, b"v", (), 0) for n in range(10))
        )
        parts = (ClaimPart(batch, (Segment(OffsetRange(0, 10), False),)),)
        request = ClaimRequest(life, leader.state().epoch, 1, parts)
        (claim,) = ledgers.member.claim(request).granted
        ledgers.member.mark(life, [Mark(claim.claim_id, 10, 10)])
        ledgers.member.close_life(life)  # its offset commit was never sent
        with wiring.member_ports(world.services, world.kafka_settings(), guarded=False) as ports:
            eventually("altered", lambda: ports.admin.committed(world.group, [partition]) == {partition: 10})
        eventually("no orphan is open", lambda: not ledgers.report.orphans(world.group, open_only=True))
        (row,) = ledgers.report.orphans(world.group, open_only=False)
        assert row["state"] == "altered"


@pytest.fixture
def brittle(
    kafka: str, own_zookeeper: ZooKeeper, own_postgres: PostgreSQL, topic: Callable[..., str]
) -> World:
    """A ZooKeeper and a ledger that the test may stop."""
    return make_world(kafka, own_zookeeper.address, own_postgres.address, topic(1))


@pytest.mark.timeout(300)
def test_zookeeper_and_the_ledger_may_go_away_and_come_back(
    brittle: World, own_zookeeper: ZooKeeper, own_postgres: PostgreSQL
) -> None:
    life, partition = open_life(brittle, "a")
    with two(brittle) as both:
        own_zookeeper.freeze()
        eventually("nobody leads any more", lambda: not any(c.state().leads for c in both))
        own_zookeeper.thaw()
        leader = eventually("somebody leads again", lambda: next((c for c in both if c.state().leads), None))

        own_postgres.stop()
        eventually("the leader says so", lambda: "PostgreSQL" in leader.state().error)
        own_postgres.start()
        leader = eventually(
            "somebody leads, and all is well",
            lambda: next((c for c in both if c.state().leads and not c.state().error), None),
        )
        link = linked(brittle, leader, life)
        assert votes(link, ballot(life, partition, 0, 100)) == {Vote.FRESH}

        own_zookeeper.restart()
        eventually(
            "one leads and the other follows",
            lambda: (
                sorted((c.state().leads, c.state().follows) for c in both) == [(False, True), (True, False)]
            ),
        )


def test_stopping_takes_a_second_also_when_zookeeper_does_not_answer(
    brittle: World, own_zookeeper: ZooKeeper
) -> None:
    with brittle.coordinator() as leader:
        eventually("it leads", lambda: leader.state().leads)
        own_zookeeper.freeze()
        before = time.monotonic()
        leader.stop()
        took = time.monotonic() - before
        assert not leader.state().leads
        own_zookeeper.thaw()
    assert took < 4.0
