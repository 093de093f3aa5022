"""The coordinator's loops, with everything around them in memory."""

import time
from collections.abc import Iterator

import pytest
from contenders import (
    GROUP,
    P0,
    Contenders,
    ScriptedAdmin,
    ScriptedLedger,
    eventually,
    life,
    orphan,
    part,
    threads_of_coordinators,
    votes,
)

from airflow_kafka_exactly.errors import NotLeading, SchemaMissing, Unavailable
from airflow_kafka_exactly.protocol.claims import OrphanState
from airflow_kafka_exactly.protocol.record import OffsetRange
from airflow_kafka_exactly.protocol.votes import Ballot, Dropped, Fact, Hello, NoticeKind, Vote
from airflow_kafka_exactly.runtime.coordinator import Coordinator

FRESH, SETTLED, DOUBTFUL = Vote.FRESH, Vote.SETTLED, Vote.DOUBTFUL


def knows(standby: Coordinator, start: int, stop: int) -> bool:
    """Whether a standby's filter holds these ids."""
    kept = standby._leading._standby.filters.get(GROUP)
    return kept is not None and bool(kept.test(part(start, stop).digests).all())


@pytest.fixture
def contenders() -> Iterator[Contenders]:
    made = Contenders()
    yield made
    made.stop()
    eventually("no thread is left", lambda: not threads_of_coordinators())


# -- office ------------------------------------------------------------------------------------------------------------


def test_s6_a_leader_raises_the_epoch_then_loads_then_opens(contenders: Contenders) -> None:
    contenders.ledger.known = {GROUP: [(P0, OffsetRange(0, 10))], "other": []}
    offices = []
    contender = contenders.make()
    contenders.ledger.while_loading = lambda: offices.append(contender.state().role)
    contender.start()
    leader = contenders.leader()
    assert contenders.ledger.calls[:4] == ["raise_epoch", "groups", "load", "load"]
    assert offices == ["loading", "loading"]
    assert leader.state().epoch == 1
    contenders.ledger.facts_of = dict.fromkeys(range(10), Fact.CLAIMED)
    link = contenders.link(leader, life())
    assert votes(link, life(), part(0, 12)) == [DOUBTFUL] * 10 + [FRESH] * 2


def test_no_vote_is_given_while_the_ledger_is_loaded(contenders: Contenders) -> None:
    contenders.ledger.known = {GROUP: []}
    refused = []

    def ask() -> None:
        link = contenders.link(contender, life())  # hellos are heard already
        with pytest.raises(NotLeading):
            link.vote(Ballot(life(), (part(0, 1),)))
        refused.append(True)

    contender = contenders.make()
    contenders.ledger.while_loading = ask
    contender.start()
    contenders.leader()
    assert refused == [True]


def test_case_46_the_next_contender_leads_when_one_stops_and_epochs_grow(contenders: Contenders) -> None:
    first = contenders.add()
    assert contenders.leader() is first
    second = contenders.add()
    contenders.follows(second)
    before = time.monotonic()
    first.stop()
    assert time.monotonic() - before < 2.0
    assert contenders.leader() is second
    assert second.state().epoch == 2
    with pytest.raises((NotLeading, Unavailable)):
        contenders.link(first, life())


def test_case_46_a_suspended_leader_stands_down_before_anybody_else_leads(contenders: Contenders) -> None:
    first, second = contenders.add(), contenders.add()
    link = contenders.link(contenders.leader(), life())
    contenders.zookeeper.suspend(first.state().address)
    with pytest.raises((NotLeading, Unavailable)):
        votes(link, life(), part(0, 1))
    eventually("it stood down", lambda: first.state().epoch == 0)
    assert not second.state().leads  # the session is not over
    contenders.zookeeper.expire(first.state().address)
    assert contenders.leader() is second


def test_case_46_leadership_is_looked_at_after_the_vote_too(contenders: Contenders) -> None:
    leader = contenders.add()
    contenders.leader()
    who = life()
    link = contenders.link(leader, who)
    votes(link, who, part(0, 3))
    ledger_facts = contenders.ledger.facts

    def lose_office(*question: object) -> object:
        contenders.zookeeper.suspend(leader.state().address)
        return ledger_facts(*question)  # type: ignore[arg-type]

    contenders.ledger.facts = lose_office  # type: ignore[assignment,method-assign]
    with pytest.raises((NotLeading, Unavailable)):
        votes(link, who, part(0, 3))


def test_case_48_many_expiries_each_give_a_new_leader_with_a_greater_epoch(contenders: Contenders) -> None:
    for _ in range(3):
        contenders.add()
    for epoch in range(1, 21):
        leader = contenders.leader()
        assert leader.state().epoch == epoch
        contenders.zookeeper.expire(leader.state().address)
        eventually("it stood down", lambda leader=leader: leader.state().epoch == 0)


def test_a_missing_schema_is_shown_and_office_is_taken_once_it_is_there(contenders: Contenders) -> None:
    raise_epoch = contenders.ledger.raise_epoch

    def missing(_leader: str) -> int:
        raise SchemaMissing("no schema 'kafka_exactly': run airflow kafka-exactly migrate")

    contenders.ledger.raise_epoch = missing  # type: ignore[method-assign]
    contender = contenders.add()
    eventually("the error is shown", lambda: "migrate" in contender.state().error)
    contenders.ledger.raise_epoch = raise_epoch  # type: ignore[method-assign]
    assert contenders.leader() is contender
    eventually("no error is left", lambda: contender.state().error == "")


# -- outages -----------------------------------------------------------------------------------------------------------


def test_zookeeper_away_at_the_start_is_waited_for(contenders: Contenders) -> None:
    contenders.zookeeper.down = True
    contender = contenders.add()
    eventually("the error is shown", lambda: "ZooKeeper" in contender.state().error)
    contenders.zookeeper.down = False
    assert contenders.leader() is contender


def test_zookeeper_away_later_ends_the_reign_until_it_is_back(contenders: Contenders) -> None:
    contender = contenders.add()
    contenders.leader()
    contenders.zookeeper.down = True
    eventually("it stood down", lambda: contender.state().epoch == 0)
    contenders.zookeeper.down = False
    contenders.leader()
    assert contender.state().epoch == 2


def test_the_ledger_away_is_told_to_members_as_ask_again(contenders: Contenders) -> None:
    leader = contenders.add()
    contenders.leader()
    link = contenders.link(leader, life())
    assert votes(link, life(), part(0, 5)) == [FRESH] * 5
    contenders.ledger.down = True
    with pytest.raises(Unavailable):
        votes(link, life(), part(0, 5))  # known: the ledger has to be asked
    eventually("the error is shown", lambda: "PostgreSQL" in leader.state().error)
    contenders.ledger.down = False
    assert votes(link, life(), part(0, 5)) == [FRESH] * 5
    eventually("no error is left", lambda: leader.state().error == "")
    assert leader.state().epoch == 1


def test_a_leader_whose_ledger_stays_away_lets_another_contender_try(
    contenders: Contenders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_kafka_exactly.runtime.coordinator.LEDGER_PATIENCE_S", 0.2)
    first = contenders.add()
    contenders.leader()
    second = contenders.add()
    contenders.ledger.down = True
    eventually("the other is tried", lambda: contenders.zookeeper.addresses()[0] == second.state().address)
    assert first.state().epoch == 0
    contenders.ledger.down = False
    contenders.leader()


def test_s4_a_newer_epoch_in_the_ledger_ends_the_reign(contenders: Contenders) -> None:
    leader = contenders.add()
    contenders.leader()
    contenders.ledger.epoch = 9  # somebody else was elected, whatever ZooKeeper says
    eventually("a reign of its own begins", lambda: leader.state().epoch == 10)


# -- standbys ----------------------------------------------------------------------------------------------------------


def test_a_new_leader_knows_what_was_asked_of_the_old_one_without_the_ledger(contenders: Contenders) -> None:
    first, second = contenders.add(), contenders.add()
    contenders.follows(second)
    assert votes(contenders.link(first, life()), life(), part(0, 50)) == [FRESH] * 50
    contenders.network.isolate(first.state().address)  # it cannot be collected from either
    contenders.zookeeper.suspend(first.state().address)
    contenders.zookeeper.expire(first.state().address)
    eventually("the standby leads", lambda: second.state().leads)
    contenders.ledger.facts_of = {7: Fact.SETTLED}
    answer = votes(contenders.link(second, life("b")), life("b"), part(0, 60))
    assert answer == [FRESH] * 7 + [SETTLED] + [FRESH] * 52
    assert "facts" in contenders.ledger.calls


def test_the_filters_of_other_contenders_are_collected(contenders: Contenders) -> None:
    first, second, third = contenders.add(), contenders.add(), contenders.add()
    contenders.follows(third)
    votes(contenders.link(first, life()), life(), part(0, 50))
    contenders.network.isolate(first.state().address)
    second._leading._standby = type(second._leading._standby)(
        contenders.settings.filter
    )  # it has forgotten everything
    contenders.zookeeper.expire(first.state().address)
    eventually("the second leads", lambda: second.state().leads)
    votes(contenders.link(second, life("b")), life("b"), part(0, 50))
    assert second.state().groups[0].positives == 50


def test_what_a_standby_knew_enters_the_vote(contenders: Contenders) -> None:
    first, second = contenders.add(), contenders.add()
    contenders.follows(second)
    link = contenders.link(first, life())
    votes(link, life(), part(0, 1))
    eventually("the standby is in sync", lambda: knows(second, 0, 1))
    second._leading._standby.filters[GROUP].add(part(10, 20).digests)
    contenders.ledger.facts_of = dict.fromkeys(range(10, 20), Fact.SETTLED)
    assert votes(link, life(), part(5, 25)) == [FRESH] * 5 + [SETTLED] * 10 + [FRESH] * 5


def test_a_standby_that_was_cut_off_follows_anew_with_the_whole_filter(contenders: Contenders) -> None:
    first, second = contenders.add(), contenders.add()
    contenders.follows(second)
    link = contenders.link(first, life())
    votes(link, life(), part(0, 10))
    contenders.network.isolate(first.state().address)
    eventually("the standby lost it", lambda: not second.state().follows)
    eventually("the leader lost it", lambda: first.state().standbys == ())
    contenders.network.rejoin(first.state().address)
    link = contenders.link(first, life())
    votes(link, life(), part(10, 20))
    contenders.follows(second)
    eventually("the standby knows all", lambda: knows(second, 0, 20))


def test_a_standby_that_does_not_acknowledge_stops_nobody(contenders: Contenders) -> None:
    first, second = contenders.add(), contenders.add()
    contenders.follows(second)
    link = contenders.link(first, life())
    with second._leading._lock:  # it hangs
        assert votes(link, life(), part(0, 10)) == [FRESH] * 10
    contenders.follows(second)
    votes(link, life(), part(10, 20))
    eventually("it has resynced", lambda: knows(second, 0, 20))


# -- members -----------------------------------------------------------------------------------------------------------


def test_s6_another_slot_is_told_doubtful_until_the_first_drops_or_closes(contenders: Contenders) -> None:
    leader = contenders.add()
    contenders.leader()
    a, b = contenders.link(leader, life("a")), contenders.link(leader, life("b"))
    assert votes(a, life("a"), part(0, 5)) == [FRESH] * 5
    assert votes(b, life("b"), part(0, 5)) == [DOUBTFUL] * 5
    a.drop(Dropped(life("a"), (P0,)))
    assert votes(b, life("b"), part(0, 5)) == [FRESH] * 5


def test_what_a_closed_life_held_is_free_again(
    contenders: Contenders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_kafka_exactly.runtime.upkeep.FREE_EVERY_S", 0.0)
    leader = contenders.add()
    contenders.leader()
    votes(contenders.link(leader, life("a")), life("a"), part(0, 5))
    b = contenders.link(leader, life("b"))
    contenders.ledger.closed.append(life("a"))
    eventually("it is free", lambda: votes(b, life("b"), part(0, 5)) == [FRESH] * 5)


def test_overdue_lives_are_fenced_and_their_reservations_end(contenders: Contenders) -> None:
    leader = contenders.add()
    contenders.leader()
    votes(contenders.link(leader, life("a")), life("a"), part(0, 5))
    contenders.ledger.late.append(life("a"))
    eventually("it is fenced", lambda: contenders.ledger.fenced == [life("a")])
    b = contenders.link(leader, life("b"))
    eventually("its reservations end", lambda: votes(b, life("b"), part(0, 5)) == [FRESH] * 5)
    assert leader.state().fenced == 1


def test_case_44_no_fence_while_the_ledger_was_away_in_between() -> None:
    contenders = Contenders(fence_grace_s=1.5)
    try:
        contenders.add()
        contenders.leader()
        contenders.ledger.late.append(life("a"))
        eventually("the grace has begun", lambda: contenders.ledger.calls.count("overdue") >= 1)
        contenders.ledger.down = True
        eventually("the outage is noticed", lambda: "PostgreSQL" in contenders.leader().state().error)
        before = contenders.ledger.calls.count("overdue")
        contenders.ledger.down = False
        eventually("fenced", lambda: contenders.ledger.fenced)
        assert contenders.ledger.calls.count("overdue") - before >= 2  # it waited for its grace again
    finally:
        contenders.stop()


def test_members_are_told_of_released_doubts(contenders: Contenders) -> None:
    leader = contenders.add()
    contenders.leader()
    link = contenders.link(leader, life())
    contenders.ledger.released = 2
    notices = eventually("told", link.notices)
    assert notices[0].kind is NoticeKind.RELEASED_DOUBTS


def test_state_names_members_standbys_and_votes(contenders: Contenders) -> None:
    first, second = contenders.add(), contenders.add()
    contenders.follows(second)
    link = contenders.link(first, life())
    votes(link, life(), part(0, 5))
    state = first.state()
    assert (state.role, state.members, state.standbys) == ("open", (life(),), (second.state().address,))
    (group,) = state.groups
    assert (group.group_id, group.asked, group.fresh, group.ids) == (GROUP, 5, 5, 5)
    assert 0 <= group.false_positive_rate <= contenders.settings.filter.error_rate
    link.close()
    eventually("its end is noticed", lambda: first.state().members == ())
    assert second.state().role == "standby"


def test_hello_while_nobody_leads_is_refused(contenders: Contenders) -> None:
    first, second = contenders.add(), contenders.add()
    contenders.leader()
    with pytest.raises(NotLeading):
        second._leading.hello(Hello(life(), "c"))
    with pytest.raises(NotLeading):
        second._leading.follow("x")
    assert first.state().leads


# -- orphan commits ----------------------------------------------------------------------------------------------------


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_kafka_exactly.runtime.coordinator.DRAIN_EVERY_S", 0.05)


def with_orphan() -> ScriptedLedger:
    return ScriptedLedger(known={GROUP: []}, orphans={1: orphan()}, frontiers={P0: 20})


@pytest.mark.usefixtures("fast")
def test_s8_an_empty_groups_offset_is_altered_and_read_back() -> None:
    admin = ScriptedAdmin({P0: 10})
    contenders = Contenders(with_orphan())
    try:
        contenders.add(lambda _: admin)
        eventually("drained", lambda: contenders.ledger.drained == {1: OrphanState.ALTERED})
        assert admin.altered == [{P0: 20}]
    finally:
        contenders.stop()


@pytest.mark.usefixtures("fast")
def test_s8_members_of_a_group_are_told_and_the_read_back_closes() -> None:
    admin = ScriptedAdmin({P0: 10}, empty=False)
    contenders = Contenders(with_orphan())
    try:
        leader = contenders.add(lambda _: admin)
        contenders.leader()
        link = contenders.link(leader, life())
        told = eventually("told", link.notices)
        assert told[0].kind is NoticeKind.COMMIT_AGAIN
        assert told[0].partitions == (P0,)
        assert contenders.ledger.drained == {}
        admin.offsets[P0] = 20
        eventually("drained", lambda: contenders.ledger.drained == {1: OrphanState.MEMBER})
        assert admin.altered == []
    finally:
        contenders.stop()


@pytest.mark.usefixtures("fast")
def test_a_group_without_a_known_kafka_connection_is_told_and_says_so() -> None:
    contenders = Contenders(with_orphan())
    try:
        leader = contenders.add(lambda _: None)
        contenders.leader()
        link = contenders.link(leader, life())
        assert eventually("told", link.notices)[0].kind is NoticeKind.COMMIT_AGAIN
        eventually("it says so", lambda: "no Kafka connection" in leader.state().groups[0].orphans_wait)
        assert contenders.ledger.drained == {}
    finally:
        contenders.stop()


@pytest.mark.usefixtures("fast")
def test_kafka_away_stops_neither_votes_nor_fences_and_is_survived() -> None:
    admin = ScriptedAdmin({P0: 10}, down=True)
    contenders = Contenders(with_orphan())
    try:
        leader = contenders.add(lambda _: admin)
        contenders.leader()
        eventually("it says so", lambda: "Kafka" in leader.state().groups[0].orphans_wait)
        assert votes(contenders.link(leader, life()), life(), part(0, 5)) == [FRESH] * 5
        contenders.ledger.late.append(life("dead"))
        eventually("fenced", lambda: contenders.ledger.fenced)
        admin.down = False
        eventually("drained", lambda: contenders.ledger.drained == {1: OrphanState.ALTERED})
    finally:
        contenders.stop()
