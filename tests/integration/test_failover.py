"""Leaders that are killed, frozen, cut off, expired or resign, on a real ZooKeeper, PostgreSQL and gRPC. `make failover` does the
first of these often enough to measure it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import unique
from elections import SESSION_S, TRUST_S, expire
from proxy import Proxy
from succession.asking import Asker
from succession.late import LateVoters
from succession.plan import CLUSTER, Plan
from succession.result import Result, percentile
from succession.stage import stage
from world import eventually

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.adapters.channel import GrpcChannel
from airflow_kafka_exactly.adapters.postgres import migrate
from airflow_kafka_exactly.errors import NotLeading, Unavailable
from airflow_kafka_exactly.ports import MemberLedger
from airflow_kafka_exactly.protocol.votes import Ballot, BallotAnswer, Hello
from airflow_kafka_exactly.runtime.coordinator import Coordinator
from airflow_kafka_exactly.settings import ServiceSettings

pytestmark = pytest.mark.integration

EXPIRIES = int(os.environ.get("KX_EXPIRIES", "5"))
"""Case 48 says 100: KX_EXPIRIES=100."""
KNOWN_IDS = 200_000
LONG_SESSION_S, LONG_TRUST_S = 4.0, 2.5
"""So long that a resignation is told from an expiry also on a busy machine."""


@pytest.fixture
def plan(zookeeper: str, database: str) -> Plan:
    return Plan(
        zookeeper=zookeeper,
        ledger=database,
        root=f"/{unique('root')}",
        session_timeout_s=SESSION_S,
        trust_s=TRUST_S,
    )


@pytest.fixture
def services(plan: Plan) -> ServiceSettings:
    migrate(plan.services().ledger)
    return plan.services()


@pytest.fixture
def ledger(services: ServiceSettings) -> Iterator[MemberLedger]:
    with wiring.shared_ledger(services.ledger) as ledgers:
        yield ledgers.member


@contextlib.contextmanager
def contending(services: ServiceSettings) -> Iterator[Coordinator]:
    """It leads, or follows who does."""
    with wiring.coordinator(services) as coordinator:
        eventually("it leads or follows", lambda: coordinator.state().leads or coordinator.state().follows)
        yield coordinator


def vote(services: ServiceSettings, leader: Coordinator, asker: Asker) -> BallotAnswer:
    link = GrpcChannel(services.channel).link(leader.state().address, asker.life)
    try:
        link.hello(Hello(asker.life, CLUSTER))
        return link.vote(Ballot(asker.life, (asker.part,)))
    finally:
        link.close()


@pytest.mark.timeout(300)
def test_case_46_s6_lost_leaders_are_replaced_and_nothing_of_them_is_accepted(
    plan: Plan, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    plan = replace(plan, session_timeout_s=LONG_SESSION_S, trust_s=LONG_TRUST_S)
    with stage(plan, tmp_path, KNOWN_IDS) as on:
        order = (on.faults.kill, on.faults.freeze, on.faults.freeze, on.faults.kill, on.faults.resign)
        changes = [fault() for fault in order]
        fresh = on.fresh_for_a_lone_newcomer()
    result = Result(changes=changes, session_timeout_s=LONG_SESSION_S, known_ids=KNOWN_IDS, known_fresh=fresh)
    record_property("failover", result.lines()[-1])
    assert max(result.lost) < LONG_SESSION_S + 5
    assert (
        max(result.resigned) < LONG_SESSION_S
    )  # its node was removed; nobody waited for the session to expire
    assert all(change.late_asked > 0 for change in changes if change.fault == "freeze")
    assert result.stale_votes_accepted == 0
    assert all(change.sampled > 0 for change in changes)
    assert sum(change.fresh for change in changes) == fresh == 0


def test_case_46_no_vote_of_a_leader_cut_off_from_zookeeper_is_accepted_after_its_successors_first(
    zookeeper: str, services: ServiceSettings, ledger: MemberLedger
) -> None:
    asker, late = Asker(ledger, "a"), LateVoters(ledger, GrpcChannel(services.channel))
    with Proxy(zookeeper) as proxy:
        reached = replace(services, election=replace(services.election, hosts=proxy.address))
        with contending(reached) as old, contending(services) as new:
            address, epoch = old.state().address, old.state().epoch
            assert asker.claim(vote(services, old, asker).epoch)
            late.greet(address)
            proxy.freeze()
            eventually("the other one leads", lambda: new.state().leads, SESSION_S + 5)
            answer = vote(services, new, asker)
            assert answer.epoch > epoch
            late.reset()
            late.ask(address)
            late.claim(epoch)
            late.woken()
            assert late.asked > 0
            assert late.answered == late.accepted == 0
            assert not asker.claim(epoch)
            with pytest.raises((NotLeading, Unavailable)):
                vote(services, old, asker)
            assert asker.claim(answer.epoch)
            proxy.heal()
            eventually("it follows the new leader", lambda: old.state().follows)


def test_case_48_a_new_leader_after_each_expired_session_and_a_clean_stop(
    zookeeper: str, services: ServiceSettings, ledger: MemberLedger
) -> None:
    before = set(threading.enumerate())
    asker, epoch = Asker(ledger, "a"), 0
    with contending(services) as one, contending(services) as two:
        for _ in range(EXPIRIES):
            leader, other = (one, two) if one.state().leads else (two, one)
            answer = vote(services, leader, asker)
            assert answer.epoch > epoch
            epoch = answer.epoch
            assert asker.claim(epoch)
            expire(zookeeper, leader.election._session._client.client_id)
            eventually("the other one leads", lambda c=other: c.state().leads, SESSION_S + 5)
            eventually("the expired one follows", lambda c=leader: c.state().follows)
        assert not asker.claim(epoch)
    eventually("no thread is left", lambda: set(threading.enumerate()) <= before)


def test_the_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert percentile(range(1, 21), 0.95) == 19
    assert percentile([1.0], 0.95) == 1.0
