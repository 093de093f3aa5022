"""A member's link to the leader (4.4), whatever carries it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fakes import ballot, eventually

from airflow_kafka_exactly.errors import Fenced, NotLeading, PeerRefused, StaleEpoch, Unavailable
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.record import Partition
from airflow_kafka_exactly.protocol.votes import Dropped, Hello, Notice, NoticeKind

LIFE = Life(group_id="payments", slot="dag.task[0]", incarnation=3)
OTHER = Life(group_id="refunds", slot="dag.task[1]", incarnation=1)


def test_a_hello_with_records_in_hand_arrives_whole(wire):
    _, address = wire.serve()
    link = wire.channel().link(address, LIFE)
    hello = Hello(LIFE, "cluster-1", ballot(LIFE, 3, 0).parts)

    assert link.hello(hello) == wire.leader.epoch

    (heard,) = wire.leader.hellos
    assert (heard.life, heard.cluster_id) == (LIFE, "cluster-1")
    assert_same_parts(heard.in_hand, hello.in_hand)
    link.close()


@pytest.mark.parametrize("counts", [(), (0,), (1,), (1000, 1, 0, 17), (100_000,)])
def test_each_record_of_a_ballot_gets_its_vote(wire, counts):
    _, address = wire.serve()
    link = wire.channel().link(address, LIFE)
    asked = ballot(LIFE, *counts)

    answer = link.vote(asked)

    assert answer.epoch == wire.leader.epoch
    assert [v.tolist() for v in answer.votes] == [[i % 3 for i in range(n)] for n in counts]
    assert wire.leader.ballots[0].life == LIFE
    assert_same_parts(wire.leader.ballots[0].parts, asked.parts)
    link.close()


def test_dropped_partitions_are_told(wire):
    _, address = wire.serve()
    link = wire.channel().link(address, LIFE)
    dropped = Dropped(LIFE, (Partition("id", 2, "payments"),))
    link.drop(dropped)
    assert wire.leader.dropped == [dropped]
    link.close()


def test_a_link_serves_several_threads(wire):
    server, address = wire.serve()
    link = wire.channel().link(address, LIFE)
    told: list[Notice] = []
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(link.vote, ballot(LIFE, n)) for n in range(1, 60)]
        for _ in range(20):
            server.notify(Notice("payments", NoticeKind.RELEASED_DOUBTS))
        eventually(lambda: told.extend(link.notices()) or len(told) == 20)
    assert [len(a.result().votes[0]) for a in answers] == list(range(1, 60))
    link.close()


def test_notices_reach_the_members_of_their_group_only(wire):
    server, address = wire.serve()
    ours, theirs = wire.channel().link(address, LIFE), wire.channel().link(address, OTHER)
    notice = Notice("payments", NoticeKind.COMMIT_AGAIN, (Partition("id", 1, "payments"),))

    server.notify(notice)
    server.notify(Notice("refunds", NoticeKind.RELEASED_DOUBTS))

    assert wait_for_notices(ours) == [notice]
    assert wait_for_notices(theirs) == [Notice("refunds", NoticeKind.RELEASED_DOUBTS)]
    assert list(ours.notices()) == []
    ours.close()
    theirs.close()


def test_who_does_not_lead_says_so_and_the_link_is_over(wire):
    _, address = wire.serve()
    link = wire.channel().link(address, LIFE)
    wire.leader.error = NotLeading("I stood down")

    with pytest.raises(NotLeading, match="stood down"):
        link.vote(ballot(LIFE, 3))

    assert not link.alive
    wire.leader.error = None
    with pytest.raises(NotLeading):
        link.vote(ballot(LIFE, 3))
    link.close()


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (Unavailable("PostgreSQL", "ledger", "down"), Unavailable),
        (Fenced("an old life"), Fenced),
        (NotLeading("no"), NotLeading),
    ],
)
def test_errors_of_the_leader_keep_their_kind(wire, raised, expected):
    _, address = wire.serve()
    link = wire.channel().link(address, LIFE)
    wire.leader.error = raised
    with pytest.raises(expected, match=str(raised).split()[-1]):
        link.hello(Hello(LIFE, "cluster-1"))
    link.close()


def test_a_leader_of_an_old_epoch_does_not_lead():
    from airflow_kafka_exactly.adapters.channel import service

    assert service.status_of(StaleEpoch("3 is over")) == service.status_of(NotLeading("no"))


def test_a_dismissed_member_knows_it_and_looks_for_the_leader_again(wire):
    server, address = wire.serve()
    link = wire.channel().link(address, LIFE)
    assert link.alive
    server.dismiss()
    eventually(lambda: not link.alive)
    with pytest.raises(Unavailable):
        link.vote(ballot(LIFE, 1))
    again = wire.channel().link(address, LIFE)
    assert again.hello(Hello(LIFE, "cluster-1")) == wire.leader.epoch
    again.close()
    link.close()


def test_the_leader_hears_that_a_member_is_gone_once(wire):
    _, address = wire.serve()
    link, other = wire.channel().link(address, LIFE), wire.channel().link(address, OTHER)
    link.close()
    eventually(lambda: wire.leader.gone)
    other.close()
    eventually(lambda: len(wire.leader.gone) == 2)
    assert wire.leader.gone == [LIFE, OTHER]


def test_a_replaced_link_is_no_news(wire):
    _, address = wire.serve()
    old = wire.channel().link(address, LIFE)
    new = wire.channel().link(address, LIFE)
    eventually(lambda: not old.alive)
    old.close()
    assert new.alive
    assert new.hello(Hello(LIFE, "cluster-1")) == wire.leader.epoch
    assert wire.leader.gone == []
    new.close()
    eventually(lambda: wire.leader.gone == [LIFE])


def test_a_stopped_server_ends_its_links(wire):
    server, address = wire.serve()
    link = wire.channel().link(address, LIFE)
    server.stop()
    eventually(lambda: not link.alive)
    with pytest.raises(Unavailable):
        link.hello(Hello(LIFE, "cluster-1"))
    link.close()
    with pytest.raises(Unavailable, match="kafka_exactly_channel"):
        wire.channel().link(address, LIFE)


def test_a_closed_link_answers_nothing(wire):
    _, address = wire.serve()
    link = wire.channel().link(address, LIFE)
    link.close()
    assert not link.alive
    with pytest.raises(Unavailable):
        link.vote(ballot(LIFE, 1))
    link.close()


@pytest.mark.parametrize("call", ["link", "collect"])
def test_a_caller_with_another_secret_is_refused(wire, call):
    _, address = wire.serve()
    stranger = wire.channel(secret="another secret, long enough")
    with pytest.raises(PeerRefused, match="secret"):
        stranger.link(address, LIFE) if call == "link" else stranger.collect(address)
    assert wire.leader.hellos == []


@pytest.mark.parametrize("call", ["link", "collect"])
def test_a_caller_of_another_version_is_refused(wire, call):
    _, address = wire.serve()
    stranger = wire.channel(version="2")
    with pytest.raises(PeerRefused, match="version"):
        stranger.link(address, LIFE) if call == "link" else stranger.collect(address)


def test_a_stop_is_quick_also_with_many_open_streams(wire):
    server, address = wire.serve()
    links = [wire.channel().link(address, Life(group_id="g", slot=str(n), incarnation=1)) for n in range(40)]
    stopped = threading.Event()
    stopper = threading.Thread(target=lambda: (server.stop(), stopped.set()))
    stopper.start()
    assert stopped.wait(1.0)
    stopper.join()
    for link in links:
        link.close()


def wait_for_notices(link):
    found: list[Notice] = []
    eventually(lambda: found.extend(link.notices()) or found)
    return found


def assert_same_parts(found, expected):
    assert [(p.partition, p.range) for p in found] == [(p.partition, p.range) for p in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.offsets, other.offsets)
        np.testing.assert_array_equal(one.digests, other.digests)
