"""Who leads (section 5, cases 46 and 48), whatever it is decided by."""

from __future__ import annotations

from elections import SESSION_S
from fakes import eventually


def test_the_first_contender_leads_and_is_found(world):
    directory = world.directory()
    assert directory.leader_address() is None
    assert list(directory.contenders()) == []

    first, second = world.contender("one:1").enter(), world.contender("two:2").enter()

    assert first.leads()
    assert not second.leads()
    assert directory.leader_address() == "one:1"
    assert list(directory.contenders()) == ["one:1", "two:2"]
    eventually(lambda: first.changes == [True])
    assert second.changes == []


def test_a_resigned_leader_is_followed_at_once(world):
    directory = world.directory()
    first, second = world.contender("one:1").enter(), world.contender("two:2").enter()
    assert first.leads()
    first.election.resign()
    assert not first.leads()
    eventually(second.leads, within_s=SESSION_S * 0.9)  # before an unended session could expire
    assert directory.leader_address() == "two:2"
    assert list(directory.contenders()) == ["two:2"]
    eventually(lambda: second.changes == [True])


def test_one_that_resigned_may_contend_again(world):
    first, second = world.contender("one:1").enter(), world.contender("two:2").enter()
    assert first.leads()
    first.election.resign()
    eventually(second.leads)
    first.enter()
    assert not first.leads()
    second.election.resign()
    eventually(first.leads)
    assert list(world.directory().contenders()) == ["one:1"]


def test_a_contender_that_resigns_changes_nothing(world):
    first, second, third = (world.contender(f"{n}:1").enter() for n in ("one", "two", "three"))
    second.election.resign()
    assert first.leads()
    first.election.resign()
    eventually(third.leads)
    second.election.resign()  # again: nothing happens
    assert third.leads()


def test_an_expired_leader_stands_down_and_contends_again(world):
    directory = world.directory()
    first, second = world.contender("one:1").enter(), world.contender("two:2").enter()
    assert first.leads()

    world.expire(first)

    eventually(second.leads)
    assert not first.leads()
    eventually(lambda: list(directory.contenders()) == ["two:2", "one:1"])
    eventually(lambda: first.changes == [True, False])
    second.election.resign()
    eventually(first.leads)
    assert first.changes == [True, False, True]


def test_case_46_a_leader_that_is_cut_off_does_not_lead(world):
    first, second = world.contender("one:1").enter(), world.contender("two:2").enter()
    assert first.leads()
    world.cut(first)
    eventually(lambda: not first.leads(), within_s=SESSION_S * 0.9)
    eventually(second.leads)
    world.heal(first)
    eventually(lambda: list(world.directory().contenders()) == ["two:2", "one:1"])
    assert not first.leads()
    assert second.leads()


def test_case_46_a_frozen_link_never_leaves_two_leaders(world):
    first, second = world.contender("one:1").enter(), world.contender("two:2").enter()
    assert first.leads()
    world.freeze(first)
    both = []

    def second_leads() -> bool:
        new = second.leads()  # asked first: a leader that stops in between is no second one
        both.append(new and first.leads())
        return new

    eventually(second_leads)
    assert not any(both)
    assert not first.leads()
    world.heal(first)
    eventually(lambda: list(world.directory().contenders()) == ["two:2", "one:1"])
    assert not first.leads()


def test_members_are_shown_while_they_are_there(world):
    one, two = world.directory(), world.directory()
    one.enter("dag.task[0]")
    one.enter("a/b %2F ü[1]")
    two.enter("dag.task[1]")
    assert list(two.members()) == ["a/b %2F ü[1]", "dag.task[0]", "dag.task[1]"]
    one.leave("dag.task[0]")
    one.leave("never entered")
    assert list(two.members()) == ["a/b %2F ü[1]", "dag.task[1]"]
    one.close()
    eventually(lambda: list(two.members()) == ["dag.task[1]"])


def test_a_slot_taken_over_is_not_removed_by_its_former_process(world):
    old, new = world.directory(), world.directory()
    old.enter("slot")
    new.enter("slot")
    old.leave("slot")
    assert list(new.members()) == ["slot"]
    old.close()
    assert list(new.members()) == ["slot"]
