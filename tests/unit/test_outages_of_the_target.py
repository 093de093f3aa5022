"""A target that is away must not cost a record, and a record that is poison must not hold up the others. In virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from fakes import eventually
from members import TOPIC, Members
from outage_stage import GRACE_S, Scene, Target

from airflow_kafka_exactly.errors import NotApplied
from airflow_kafka_exactly.protocol.breaker import OPENS_AT, Breaker, History, Patience
from airflow_kafka_exactly.runtime.background import Stopped
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.until import Until

DOWN_S = 1800.0


def always(now: float) -> bool:
    return now >= 0


def proves(target: Target) -> Callable[[Any], None]:
    def function(record: Any) -> None:
        try:
            target(record)
        except ConnectionError as refused:
            raise NotApplied(str(refused)) from refused

    return function


# -- the target is away ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("down_s", [3.0, 30.0, DOWN_S])
@pytest.mark.parametrize("at_once", [1000, 10, 1])
@pytest.mark.parametrize("how", ["vouches", "NotApplied", "a check says no"])
def test_an_outage_from_the_start_costs_no_record(down_s: float, at_once: int, how: str) -> None:
    """5,000 records, a grace that is longer than the outage: no dead letter, no question, each effect once, in bounded calls."""
    scene = Scene(settings={"outage_grace_s": 2 * DOWN_S}, vouches=how == "vouches")
    if how != "vouches":
        function = UserFunction(
            apply=proves(scene.target) if how == "NotApplied" else scene.target,
            check=(lambda record: scene.target.effects[record.offset] > 0)
            if how == "a check says no"
            else None,
        )
        scene.runner._trier._function = scene.runner._function = function
    scene.target.down = lambda now: now < down_s
    count = 5000 if at_once == 1000 else 400
    scene.run(count, at_once=at_once)
    assert (scene.dead(), scene.questions()) == ([], [])
    assert scene.target.effects == Counter(range(count))
    assert len(scene.target.calls) < count + 150, "while it is away it is asked now and then"
    assert scene.elapsed_s() < down_s + 120, "it goes on soon after the outage"


@pytest.mark.parametrize("down_s", [30.0, DOWN_S])
def test_an_outage_in_the_middle_costs_no_record(down_s: float) -> None:
    scene = Scene(settings={"outage_grace_s": 2 * DOWN_S})
    scene.target.down = lambda now: 1.5 <= now < 1.5 + down_s
    scene.run(5000)
    assert (scene.dead(), scene.questions()) == ([], [])
    assert scene.target.effects == Counter(range(5000))


@pytest.mark.parametrize("kind", [{"unit": True}, {"in_ledger": True}])
def test_an_outage_costs_no_batch_and_no_effect_in_the_ledger(kind: dict[str, bool]) -> None:
    scene = Scene(settings={"outage_grace_s": 2 * DOWN_S}, **kind)
    scene.target.down = lambda now: now < DOWN_S
    scene.run(500, at_once=100)
    assert (scene.dead(), scene.questions()) == ([], [])
    assert scene.target.effects == Counter(range(500))


def test_an_outage_with_poison_at_its_head_ends_with_it() -> None:
    """Different records are tried: one that is poison does not hide that the others would succeed."""
    scene = Scene(settings={"outage_grace_s": 2 * DOWN_S})
    scene.target.poison, scene.target.down = frozenset({0, 7}), lambda now: now < 100
    scene.run(100)
    assert scene.dead() == [0, 7]
    assert scene.target.effects == Counter(set(range(100)) - {0, 7})
    assert scene.elapsed_s() < 300


@pytest.mark.parametrize(("down_s", "at_most"), [(3.0, 3), (DOWN_S, 16)])
def test_s7_an_outage_whose_failures_prove_nothing_asks_few_questions(down_s: float, at_most: int) -> None:
    """Each record in hand that raised is a doubt. But nothing else begins while everything fails, only a try now and then."""
    scene = Scene(vouches=False)
    scene.target.down = lambda now: now < down_s
    scene.run(5000)
    asked = scene.questions()
    assert 1 <= len(asked) <= at_most
    assert scene.dead() == []
    assert scene.target.effects == Counter(set(range(5000)) - set(asked))


# -- poison ------------------------------------------------------------------------------------------------------------


def test_poison_among_healthy_records_is_buried_after_its_attempts() -> None:
    scene = Scene()
    scene.target.poison = frozenset({0, 5, 6, 50})
    scene.run(100)
    assert scene.dead() == [0, 5, 6, 50]
    assert scene.target.effects == Counter(set(range(100)) - {0, 5, 6, 50})
    assert {letter.attempts for letter in scene.place().letters} <= {3, 4, 5}
    assert scene.elapsed_s() < 30


@pytest.mark.parametrize("kind", [{}, {"unit": True}, {"in_ledger": True}])
def test_a_lone_poison_record_is_buried_after_the_grace(kind: dict[str, bool]) -> None:
    scene = Scene(**kind)
    scene.target.poison = frozenset({0})
    scene.run(1)
    assert scene.dead() == [0]
    assert GRACE_S <= scene.elapsed_s() < GRACE_S + 90


def run_for(scene: Scene, seconds: float, count: int) -> bool:
    """One run of the task, ended like by its time-out; whether it came to its own end before."""
    scene.restart()
    end = scene.elapsed_s() + seconds
    scene.waits.during = lambda: scene.waits.set() if scene.elapsed_s() >= end else None
    try:
        scene.run(count - scene.frontier())
    except Stopped:
        return False
    return True


@pytest.mark.parametrize("kind", [{}, {"unit": True}, {"in_ledger": True}])
@pytest.mark.parametrize("max_attempts", [3, 12])
def test_l1_runs_that_are_shorter_than_the_grace_give_a_lone_poison_record_up(
    kind: dict[str, bool], max_attempts: int
) -> None:
    """Each run began its patience anew, and none was long enough."""
    scene = Scene(settings={"max_attempts": max_attempts}, **kind)
    scene.target.poison = frozenset({0})
    runs = 1
    while not run_for(scene, 100.0, 1):
        assert scene.dead() == []
        runs += 1
    assert scene.dead() == [0]
    assert runs >= 6
    assert GRACE_S <= scene.elapsed_s() < GRACE_S + 120
    (letter,) = scene.place().letters
    assert letter.attempts >= max_attempts


@pytest.mark.parametrize("how", ["in one run", "in short runs"])
def test_l1_poison_at_the_end_of_a_claim_pays_the_grace_once(how: str) -> None:
    scene = Scene()
    scene.target.poison = frozenset(range(5, 10))
    while not run_for(scene, 100.0 if how == "in short runs" else 1e9, 10):
        pass
    assert scene.dead() == [5, 6, 7, 8, 9]
    assert scene.target.effects == Counter(range(5))
    assert scene.elapsed_s() < GRACE_S + 500


@pytest.mark.parametrize("kind", [{}, {"unit": True}, {"in_ledger": True}])
def test_an_outage_over_many_short_runs_costs_no_record(kind: dict[str, bool]) -> None:
    scene = Scene(settings={"outage_grace_s": 2 * DOWN_S}, **kind)
    scene.target.down = lambda now: now < DOWN_S
    while not run_for(scene, 100.0, 50):
        pass
    assert (scene.dead(), scene.questions()) == ([], [])
    assert scene.target.effects == Counter(range(50))


@pytest.mark.parametrize("kind", [{}, {"unit": True}])
def test_nothing_counts_as_begun_during_a_long_pause(kind: dict[str, bool]) -> None:
    """A crash would make a doubt of each record of the window."""
    scene = Scene(**kind)
    scene.target.down = lambda now: now < 300
    pauses: list[float] = []

    def during() -> None:
        if scene.runner._breaker.next_at - scene.clock.now() > 5.0:
            pauses.append(scene.clock.now())
            assert [c for c in scene.place().claims if not c.settled] == []

    scene.waits.during = during
    scene.run(100)
    assert pauses
    assert scene.target.effects == Counter(range(100))


def test_another_partition_goes_on_meanwhile_and_its_success_says_whose_fault_it_is() -> None:
    """The one thread waited for the record that fails, for as long as the grace."""
    seen: list[tuple[int, int]] = []

    def function(record: Any) -> None:
        if record.partition == 0:
            raise NotApplied("poison")
        seen.append((record.partition, record.offset))

    settings = {"retry_delay_s": 20.0, "max_attempts": 1, "outage_grace_s": 6000.0}
    with Members(partitions=2, member=settings) as world:
        world.produce(1)
        member = world.start(UserFunction(apply=function), Until())
        eventually(lambda: "poller" in vars(member.membership) and member.membership.poller.hand._waiting, 30)
        for _ in range(3):
            world.broker.produce(TOPIC, b"x", number=1)
        world.produce(1)
        eventually(lambda: world.dead_letters() >= 1 and len(seen) == 3, 15)
        member.stop()
        member.join()
    assert seen == [(1, 0), (1, 1), (1, 2)]


def test_a_poison_record_at_the_end_is_buried_when_its_neighbour_succeeded() -> None:
    scene = Scene()
    scene.target.poison = frozenset({1, 3})
    scene.run(4)
    assert scene.dead() == [1, 3]
    assert scene.summary.counts["retried"] == 4
    assert scene.elapsed_s() < 30


def test_all_of_a_topic_poisoned_becomes_dead_letters_one_a_try() -> None:
    scene = Scene()
    scene.target.poison = frozenset(range(50))
    buried_at: list[int] = []
    really = scene.stage.member.bury

    def bury(*given: Any) -> Any:
        buried_at.append(len(scene.target.calls))
        return really(*given)

    scene.runner._of.ledger.bury = bury  # type: ignore[method-assign]
    scene.run(50)
    assert scene.dead() == list(range(50))
    assert len(set(buried_at)) == 50, "at most one for each try"
    assert scene.elapsed_s() >= GRACE_S


# -- while it waits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["revoked", "stopped"])
def test_a_wait_ends_at_once_and_everything_is_given_back(end: str) -> None:
    scene = Scene()
    scene.target.down = always
    held = True

    def during() -> None:
        nonlocal held
        if scene.elapsed_s() > 100:
            held = False
            if end == "stopped":
                scene.waits.set()

    scene.waits.during = during
    if end == "stopped":
        with pytest.raises(Stopped):
            scene.run(100)
    else:
        scene.run(100, ours=lambda: held)
    assert scene.elapsed_s() < 101
    assert (scene.frontier(), scene.dead(), scene.questions(), scene.place().claims) == (0, [], [], [])


def test_s2_what_was_put_aside_below_an_effect_is_a_doubt_when_the_claim_must_go() -> None:
    """Marks cannot say that a record above has happened and this one has not."""
    scene = Scene()
    scene.target.poison = frozenset({2, 3})
    scene.run(10, ours=lambda: scene.target.effects[4] == 0)
    assert scene.target.effects == Counter([0, 1, 4])
    assert scene.questions() == [3] or scene.questions() == [2, 3]
    assert sorted([*scene.dead(), *scene.questions()]) == [2, 3]
    assert scene.frontier() == 5


def test_a_revoke_does_not_wait_while_the_no_of_a_check_ripens() -> None:
    """The record becomes a doubt at once, for the call under way may still arrive; what follows is given back."""
    scene = Scene(settings={"effect_timeout_s": 60.0}, vouches=False, check=lambda _: False)
    scene.target.poison = frozenset({0})
    scene.run(10, ours=lambda: scene.elapsed_s() < 5)
    assert scene.elapsed_s() < 6
    assert (scene.questions(), scene.frontier(), scene.place().claims) == ([0], 1, [])
    assert scene.target.calls == [0]


def test_the_no_of_a_check_counts_when_it_is_ripe() -> None:
    scene = Scene(settings={"effect_timeout_s": 60.0}, vouches=False, check=lambda _: False)
    scene.target.down = lambda now: now < 1
    scene.run(10)
    assert scene.target.effects == Counter(range(10))
    assert 60 <= scene.elapsed_s() < 70


# -- the rule alone ----------------------------------------------------------------------------------------------------


def failing(breaker: Breaker, key: int, now: float, times: int = 3) -> History:
    history = History(key=key, first_at=now, tried_at=now)
    for _ in range(times):
        history.attempts, history.tried_at = history.attempts + 1, now
        breaker.failed(history, now, 0.5)
    return history


def test_the_breaker_opens_with_the_20th_different_record_and_closes_with_a_success() -> None:
    breaker = Breaker(Patience(max_attempts=3, delay_s=1.0, grace_s=GRACE_S))
    for key in range(OPENS_AT - 1):
        failing(breaker, key, 0.0)
    failing(breaker, 0, 0.0)
    assert not breaker.open
    failing(breaker, OPENS_AT, 0.0, times=1)
    assert breaker.open
    breaker.succeeded(History(key=99, first_at=0.0, tried_at=0.0, attempts=1), 1.0)
    assert not breaker.open


def test_probes_come_at_least_a_second_apart_and_doubts_never_sooner_again() -> None:
    breaker = Breaker(Patience(max_attempts=1, delay_s=0.01, grace_s=GRACE_S))
    failing(breaker, 0, 0.0, times=1)
    breaker.nothing_else(0.0, 0.0)
    assert breaker.next_at >= 1.0
    failing(breaker, 0, 1.0, times=1)
    assert breaker.next_at >= 2.0
    breaker = Breaker(Patience(max_attempts=3, delay_s=1.0, grace_s=GRACE_S))
    pauses = []
    for key in range(2 * OPENS_AT):
        breaker.failed(History(key=key, first_at=0.0, tried_at=0.0, attempts=1), 0.0, 0.999, unknown=True)
        pauses.append(breaker.next_at)
    assert pauses == sorted(pauses)


def test_what_failed_long_ago_convicts_no_record_in_a_new_outage() -> None:
    """It failed yesterday, then others succeeded; today the target is away. Only its own tries today may be held against it."""
    breaker = Breaker(Patience(max_attempts=3, delay_s=1.0, grace_s=GRACE_S))
    breaker.succeeded(History(key=1, first_at=0.0, tried_at=0.0, attempts=1), 100.0)
    history = History(
        key=0, first_at=300.0, tried_at=300.0, failing_since=-200.0, attempts_before=3, attempts=1
    )
    breaker.failed(history, 300.0, 0.5)
    assert not breaker.blames(history, alone=False)
    history.attempts, history.tried_at = 2, 401.0
    breaker.failed(history, 401.0, 0.5)
    assert breaker.blames(history, alone=False), "its tries span the grace"


def test_delays_double_up_to_a_minute_and_are_spread() -> None:
    patience = Patience(max_attempts=3, delay_s=1.0, grace_s=GRACE_S)
    assert [patience.delay(n, 0.999) for n in (1, 2, 3)] == pytest.approx([1, 2, 4], rel=0.01)
    assert patience.delay(1000, 0.0) == 30.0
    assert patience.delay(1000, 0.999) == pytest.approx(60.0, rel=0.01)


def test_s7_what_became_a_doubt_begins_anew_when_it_is_redone() -> None:
    """Its earlier tries were judged by others: they neither bury it nor count for the tries of its redo."""
    breaker = Breaker(Patience(max_attempts=1, delay_s=1.0, grace_s=0.0))
    breaker.failed(History(key="r", first_at=0.0, tried_at=0.0, attempts=1), 0.0, 0.5, unknown=True)
    assert breaker.suspect("r") is None
    assert breaker.wait_until("r") > 0.0, "but it waits: it may be a doubt again"
    again = History(key="r", first_at=9.0, tried_at=9.0, attempts=1)
    breaker.failed(again, 9.0, 0.5)
    assert breaker.suspect("r") is again
