"""Any vote is safe (S5): the leader is replaced by an oracle that answers at random; the ledger decides."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import numpy as np
import psycopg
import pytest
from world import Effects, World, make_world

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.adapters.memory.channel import MemoryChannel, MemoryNetwork, MemoryServer
from airflow_kafka_exactly.errors import StaleEpoch
from airflow_kafka_exactly.ports import FilterSnapshot
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.record import Record
from airflow_kafka_exactly.protocol.votes import Ballot, BallotAnswer, Dropped, Hello, Vote
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.until import Ending, Until

pytestmark = pytest.mark.integration


class Oracle:
    """A `LeaderHandler` that knows nothing."""

    def __init__(self, seed: int, epoch: int) -> None:
        self._chance, self.epoch, self._lock = np.random.default_rng(seed), epoch, threading.Lock()
        self.votes = list(Vote)

    def hello(self, _: Hello) -> int:
        return self.epoch

    def vote(self, ballot: Ballot) -> BallotAnswer:
        with self._lock:
            return BallotAnswer(
                self.epoch,
                tuple(self._chance.choice(self.votes, len(p.offsets)).astype(np.uint8) for p in ballot.parts),
            )

    def drop(self, dropped: Dropped) -> None: ...
    def member_gone(self, life: Life) -> None: ...
    def follow(self, _: str) -> list[FilterSnapshot]:
        return []

    def standby_gone(self, standby: str) -> None: ...
    def snapshots(self) -> list[FilterSnapshot]:
        return []


class OneAddress:
    """A `Directory` that names the oracle."""

    def __init__(self, address: str) -> None:
        self._address = address

    def leader_address(self) -> str:
        return self._address

    def enter(self, name: str) -> None: ...
    def leave(self, name: str) -> None: ...


@pytest.fixture
def world(kafka: str, zookeeper: str, database: str, topic: Callable[..., str]) -> World:
    return make_world(kafka, zookeeper, database, topic(partitions=3))


def consult(world: World, oracle: Oracle) -> None:
    network = MemoryNetwork()
    address = MemoryServer(network, world.services.channel).start(oracle)
    world.replaced = {
        "directory": OneAddress(address),
        "channel": MemoryChannel(network, world.services.channel),
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_any_vote_is_safe(world: World, database: str, seed: int) -> None:
    """Two members, random votes: no effect twice, and every record is settled or a durable doubt."""
    consult(world, Oracle(seed, epoch=0))
    chance, effects = random.Random(seed), Effects()

    def slowly(record: Record) -> None:
        time.sleep(chance.choice([0, 0, 0.002]))
        effects(record)

    for partition in range(3):
        world.produce([b"x"] * 400, partition)
    until = world.until_end()
    members = [world.run(f"dag.task[{i}]", UserFunction(apply=slowly), until) for i in range(2)]
    assert [m.ended() for m in members] == [Ending.END] * 2
    assert not effects.repeated
    with psycopg.connect(database) as connection:
        doubted = connection.execute(
            "select p.number, r.record_offset from kafka_exactly.doubt d join kafka_exactly.doubt_record r using (doubt_id)"
            " join kafka_exactly.partition p using (partition_id) where d.state = 'open' and d.durable"
        ).fetchall()
    places = {(partition, offset) for partition in range(3) for offset in range(400)}
    assert set(effects.seen) | set(doubted) == places
    assert not set(effects.seen) & set(doubted)
    assert doubted


def test_s4_votes_of_an_old_epoch_are_asked_again(world: World) -> None:
    oracle = Oracle(1, epoch=0)
    oracle.votes = [Vote.FRESH]
    consult(world, oracle)
    effects, entered, go_on = Effects(), threading.Event(), threading.Event()

    def first_waits(record: Record) -> None:
        entered.set()
        assert go_on.wait(30)
        effects(record)

    world.produce([b"x"] * 300)
    member = world.run("dag.task", UserFunction(apply=first_waits), Until(to_end=False, idle_timeout_s=0.5))
    assert entered.wait(30)
    with wiring.shared_ledger(world.services.ledger) as ledgers:
        oracle.epoch = ledgers.leader.raise_epoch("another")
        with pytest.raises(StaleEpoch):
            ledgers.leader.sweep_orphans(oracle.epoch - 1)
    go_on.set()
    assert member.ended() is Ending.IDLE_TIMEOUT
    assert len(effects.seen) == 300
    assert not effects.repeated
