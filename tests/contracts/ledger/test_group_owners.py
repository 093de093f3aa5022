"""A consumer group belongs to the task of its first life. The group's default name and the slots join DAG and task by a dot, so
DAG `sales` with task `eu.pay` and DAG `sales.eu` with task `pay` would share group, slots and released doubts."""

from __future__ import annotations

import pytest
from ledger_stage import CLUSTER, PLACE, Stage

from airflow_kafka_exactly.errors import ConfigurationError, Fenced, GroupInUse, SlotBusy
from airflow_kafka_exactly.protocol.claims import Life, LifeKind, Opening

NAME = "sales.eu.pay"
ONE, OTHER = ("sales", "eu.pay"), ("sales.eu", "pay")


def life(stage: Stage, task: tuple[str, str], slot: str = NAME, **more: object) -> Life:
    return stage.life(slot, group=NAME, opened=False, dag_id=task[0], task_id=task[1], **more)


def test_another_task_is_refused_and_both_are_named(stage: Stage) -> None:
    mine = life(stage, ONE)
    for kind in LifeKind:
        with pytest.raises(
            GroupInUse, match=r"'sales', task 'eu\.pay'; this is DAG 'sales\.eu', task 'pay'.*groups move"
        ):
            life(stage, OTHER, kind=kind)
    assert stage.member.current_incarnation(NAME, NAME) == 1
    stage.member.renew(mine, 5)  # nothing happened to the owner


def test_another_task_is_refused_also_when_the_owner_is_away_and_gets_none_of_its_doubts(
    stage: Stage,
) -> None:
    """A released doubt was run by the other DAG's function."""
    mine = life(stage, ONE)
    stage.member.open_partitions(mine, CLUSTER, [Opening(PLACE, 0, False)])
    stage.member.close_life(mine)
    with pytest.raises(GroupInUse):
        life(stage, OTHER)
    with pytest.raises(Fenced):
        stage.member.renew(Life(group_id=NAME, slot=NAME, incarnation=2), 5)


def test_the_owner_comes_again_with_any_of_its_places(stage: Stage) -> None:
    life(stage, ONE, f"{NAME}[0]")
    life(stage, ONE, f"{NAME}[1]", kind=LifeKind.TRIGGER)
    assert life(stage, ONE, f"{NAME}[0]").incarnation == 2
    with pytest.raises(SlotBusy):
        life(stage, ONE, f"{NAME}[0]", owner="another run")


def test_a_group_of_before_belongs_to_nobody_until_its_next_life_and_its_slots_stay(stage: Stage) -> None:
    """As version 0.1.0 left it."""
    stage.member.close_life(stage.life(NAME, group=NAME, opened=False))
    assert life(stage, ONE).incarnation == 2
    with pytest.raises(GroupInUse):
        life(stage, OTHER)


def test_a_renamed_task_gets_its_group_by_command(stage: Stage) -> None:
    mine = life(stage, ONE)
    with pytest.raises(GroupInUse, match=r"at work.*sales\.eu\.pay#1"):
        stage.member.move_group(NAME, *OTHER, "ada\x00")
    stage.member.close_life(mine)
    assert stage.member.move_group(NAME, *OTHER, "ada\x00") == ONE
    with pytest.raises(GroupInUse):
        life(stage, ONE)
    assert life(stage, OTHER).incarnation == 2


def test_a_group_whose_owner_is_not_known_can_be_given_to_one(stage: Stage) -> None:
    stage.member.close_life(stage.life(NAME, group=NAME, opened=False))
    assert stage.member.move_group(NAME, *OTHER, "ada") is None
    with pytest.raises(GroupInUse):
        life(stage, ONE)


@pytest.mark.parametrize("group", ["never heard of", "odd\x00"])
def test_a_group_that_never_was_is_not_moved(stage: Stage, group: str) -> None:
    with pytest.raises(ConfigurationError, match="not known"):
        stage.member.move_group(group, *ONE, "ada")


def test_names_that_cannot_be_kept_own_nothing(stage: Stage) -> None:
    with pytest.raises(ConfigurationError, match="the DAG"):
        life(stage, ("a\x00", "b"))
    with pytest.raises(ConfigurationError, match="the task"):
        stage.member.move_group(NAME, "a", "b\ud800", "ada")
