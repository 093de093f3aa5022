"""How standbys follow a leader's filter (rule 9 of the seed, S6), whatever carries it."""

from __future__ import annotations

import time

import pytest
from fakes import FakeStandby, digests, eventually

from airflow_kafka_exactly.errors import NotLeading, PeerRefused, Unavailable
from airflow_kafka_exactly.ports import Addition, FilterSnapshot

SNAPSHOTS = (
    FilterSnapshot("payments", 4, bytes(range(256)) * 40_000),  # 10 MB: larger than any default limit
    FilterSnapshot("refunds", 0, b""),
    FilterSnapshot("small", 2, b"\x00\xff"),
)


def in_sync(server, *names):
    """Waits until additions wait for exactly these standbys."""
    eventually(lambda: set(server.replicate(Addition("probe", 10**6, digests(1)))) == set(names))


def test_a_standby_loads_whole_snapshots_of_any_size(wire):
    wire.leader.filters = SNAPSHOTS
    _, address = wire.serve()
    follower = wire.follow(address, "standby-1")
    eventually(lambda: follower.standby.loaded)
    assert tuple(follower.standby.loaded[0]) == SNAPSHOTS
    assert wire.leader.followers == ["standby-1"]


def test_a_new_leader_collects_whole_snapshots_of_any_size(wire):
    wire.leader.filters = SNAPSHOTS
    wire.leader.error = NotLeading("any contender answers a collect")
    _, address = wire.serve()
    assert tuple(wire.channel().collect(address)) == SNAPSHOTS


def test_nothing_is_collected_from_one_who_has_nothing(wire):
    _, address = wire.serve()
    assert tuple(wire.channel().collect(address)) == ()


@pytest.mark.parametrize("count", [1, 7, 8, 1001])
def test_an_addition_returns_what_each_standby_knew(wire, count):
    server, address = wire.serve()
    one, two = wire.follow(address, "one"), wire.follow(address, "two")
    in_sync(server, "one", "two")
    addition = Addition("payments", 5, digests(count))

    known = server.replicate(addition)

    assert {name: list(bits) for name, bits in known.items()} == {
        name: FakeStandby.knows(addition.digests) for name in ("one", "two")
    }
    for follower in (one, two):
        heard = follower.standby.additions[-1]
        assert (heard.group_id, heard.sequence) == ("payments", 5)
        assert heard.digests.tolist() == addition.digests.tolist()


def test_no_standby_no_wait(wire):
    server, _ = wire.serve()
    assert server.replicate(Addition("payments", 1, digests(3))) == {}


def test_a_slow_standby_leaves_the_set_and_must_follow_anew(wire):
    server, address = wire.serve()
    slow, quick = wire.follow(address, "slow"), wire.follow(address, "quick")
    in_sync(server, "slow", "quick")
    slow.standby.free.clear()

    asked = time.monotonic()
    known = server.replicate(Addition("payments", 1, digests(3)))
    waited = time.monotonic() - asked

    assert set(known) == {"quick"}
    assert 0.4 < waited < 2.0
    assert set(server.replicate(Addition("payments", 2, digests(3)))) == {"quick"}
    eventually(lambda: wire.leader.lost_followers == ["slow"])
    slow.standby.free.set()
    eventually(lambda: slow.over)
    assert slow.error is None
    assert not quick.over

    wire.follow(address, "slow")
    in_sync(server, "slow", "quick")


def test_an_addition_made_while_snapshots_are_taken_is_not_lost(wire):
    server, address = wire.serve()
    wire.leader.filters = (FilterSnapshot("payments", 4, b"holds up to 4"),)

    def add_two() -> None:
        assert server.replicate(Addition("payments", 4, digests(2, 4))) == {}
        assert server.replicate(Addition("payments", 5, digests(2, 5))) == {}

    wire.leader.on_follow = add_two
    follower = wire.follow(address, "one")
    eventually(lambda: follower.standby.additions)
    assert [a.sequence for a in follower.standby.additions] == [
        5
    ]  # 4 was in the snapshot: not "known" by itself
    in_sync(server, "one")


def test_a_standby_that_stops_is_gone_once(wire):
    server, address = wire.serve()
    follower = wire.follow(address, "one")
    in_sync(server, "one")
    follower.stop()
    assert follower.error is None
    eventually(lambda: wire.leader.lost_followers == ["one"])
    assert server.replicate(Addition("payments", 1, digests(1))) == {}


def test_who_does_not_lead_has_no_followers(wire):
    server, address = wire.serve()
    wire.leader.error = NotLeading("standby myself")
    with pytest.raises(NotLeading, match="standby myself"):
        wire.channel().follow(address, "one", FakeStandby(), lambda: False)
    assert server.replicate(Addition("payments", 1, digests(1))) == {}


def test_a_dismissed_standby_returns_without_an_error(wire):
    server, address = wire.serve()
    follower = wire.follow(address, "one")
    in_sync(server, "one")
    server.dismiss()
    eventually(lambda: follower.over)
    assert follower.error is None


def test_following_nobody_and_strangers(wire):
    server, address = wire.serve()
    with pytest.raises(PeerRefused, match="secret"):
        wire.channel(secret="another secret, long enough").follow(address, "x", FakeStandby(), lambda: False)
    server.stop()
    with pytest.raises(Unavailable):
        wire.channel().follow(address, "x", FakeStandby(), lambda: False)
    with pytest.raises(Unavailable):
        wire.channel().collect(address)
