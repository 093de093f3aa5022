"""What only a real ZooKeeper can do to an election: expired sessions, lost answers, being away."""

from __future__ import annotations

import os
import threading
import time

import pytest
from elections import SESSION_S, TRUST_S, expire, settings
from fakes import eventually
from kazoo.exceptions import NoNodeError

from airflow_kafka_exactly.adapters.zookeeper import ZooKeeperDirectory, ZooKeeperElection
from airflow_kafka_exactly.adapters.zookeeper.session import Session
from airflow_kafka_exactly.errors import Unavailable

EXPIRIES = int(os.environ.get("KX_EXPIRIES", "10"))
"""Case 48 says 100: KX_EXPIRIES=100 (about a minute)."""


def test_case_48_many_expiries_and_a_leader_after_each(real_world):
    contenders = [real_world.contender(f"c{n}:1").enter() for n in range(2)]
    directory = real_world.directory()
    for _ in range(EXPIRIES):
        eventually(lambda: any(c.leads() for c in contenders), within_s=SESSION_S + 5)
        leader = next(c for c in contenders if c.leads())
        real_world.expire(leader)
        eventually(
            lambda old=leader: any(c.leads() for c in contenders if c is not old), within_s=SESSION_S + 5
        )
        eventually(lambda: len(directory.contenders()) == 2, within_s=SESSION_S + 5)
    # That no thread is left is looked at by the fixture.


def test_case_48_a_single_contender_leads_again_after_each_expiry(real_world):
    alone = real_world.contender("alone:1").enter()
    for _ in range(EXPIRIES):
        eventually(alone.leads, within_s=SESSION_S + 5)
        eventually(lambda: alone.calls)
        told = alone.calls
        real_world.expire(alone)
        eventually(lambda before=told: alone.calls > before)
    eventually(alone.leads, within_s=SESSION_S + 5)


def test_trust_is_counted_from_the_sending_and_ends_by_itself(real_world):
    now = [1000.0]
    proxy_contender = real_world.contender("one:1")
    election = ZooKeeperElection(settings(proxy_contender.proxy.address, real_world.root), now=lambda: now[0])
    proxy_contender.election = election
    proxy_contender.enter()
    assert election.leads()
    real_world.freeze(proxy_contender)
    now[0] += TRUST_S * 0.4
    assert election.leads()  # half of the window is not used up: nothing is read
    now[0] += TRUST_S * 0.7
    assert not election.leads()


def test_leading_costs_no_request_while_the_window_is_young(real_world):
    leader = real_world.contender("one:1").enter()
    assert leader.leads()
    asked = time.monotonic()
    answers = [leader.leads() for _ in range(10_000)]
    assert all(answers)
    assert time.monotonic() - asked < 1.0


def test_a_lost_answer_of_the_create_leaves_one_node(real_world, monkeypatch):
    contender = real_world.contender("one:1").enter()
    assert contender.leads()
    lost = []
    request = Session.request

    def losing(session, name, *args, **kwargs):
        answer = request(session, name, *args, **kwargs)
        if name == "create" and not lost:
            lost.append(answer)
            raise Unavailable("ZooKeeper", "test", "the answer was lost")
        return answer

    monkeypatch.setattr(Session, "request", losing)
    real_world.expire(contender)
    eventually(lambda: lost)
    eventually(contender.leads)
    assert list(real_world.directory().contenders()) == ["one:1"]
    assert lost[0].endswith(contender.election._standing.node)


def test_a_node_that_somebody_removed_is_entered_again(real_world):
    first, second = real_world.contender("one:1").enter(), real_world.contender("two:2").enter()
    assert first.leads()
    session = second.election._session
    node = first.election._standing.node
    session.request("delete", f"{first.election._path}/{node}")
    eventually(second.leads)
    eventually(lambda: list(real_world.directory().contenders()) == ["two:2", "one:1"])
    assert not first.leads()
    with pytest.raises(NoNodeError):
        session.request("get", f"{first.election._path}/{node}")


def test_member_nodes_come_back_after_a_lost_session(real_world):
    directory, other = real_world.directory(), real_world.directory()
    directory.enter("slot")
    expire(real_world.hosts, directory._session._client.client_id)
    eventually(
        lambda: list(other.members()) == ["slot"] and directory._written_in == directory._session.session_id()
    )
    directory.leave("slot")
    assert list(other.members()) == []


def test_without_zookeeper_everything_says_so_and_leaves_no_thread():
    before = set(threading.enumerate())
    nowhere = settings("127.0.0.1:1", connect_timeout_s=0.3)
    election, directory = ZooKeeperElection(nowhere), ZooKeeperDirectory(nowhere)
    for ask in (
        lambda: election.contend("one:1", lambda: None),
        directory.leader_address,
        directory.contenders,
        directory.members,
        lambda: directory.enter("slot"),
    ):
        with pytest.raises(Unavailable, match=r"ZooKeeper \(kafka_exactly_zookeeper\)"):
            ask()
    assert not election.leads()
    election.resign()
    directory.close()
    eventually(lambda: set(threading.enumerate()) <= before)


def test_a_resignation_through_a_frozen_link_is_bounded(real_world):
    first, second = real_world.contender("one:1").enter(), real_world.contender("two:2").enter()
    assert first.leads()
    real_world.freeze(first)
    asked = time.monotonic()
    first.election.resign()
    assert time.monotonic() - asked < 12
    assert not first.leads()
    eventually(second.leads)


def test_the_election_goes_on_when_zookeeper_was_away(own_zookeeper):
    before = set(threading.enumerate())
    election = ZooKeeperElection(settings(own_zookeeper.address, "/away"))
    directory = ZooKeeperDirectory(settings(own_zookeeper.address, "/away"))
    election.contend("one:1", lambda: None)
    directory.enter("slot")
    assert election.leads()
    own_zookeeper.stop()
    eventually(lambda: not election.leads())
    own_zookeeper.start()
    eventually(election.leads, within_s=SESSION_S + 5)
    eventually(lambda: list(directory.members()) == ["slot"])
    assert directory.leader_address() == "one:1"
    election.resign()
    directory.close()
    eventually(lambda: set(threading.enumerate()) <= before)
