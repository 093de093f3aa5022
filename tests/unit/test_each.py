"""One failing item never stops a loop over many (L1): fencing, draining, telling, evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from contenders import GROUP, P0, Contenders, ScriptedAdmin, ScriptedLedger, eventually, life, orphan
from doubts import CHECK, JustDoubts, raised

from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.ports import KafkaAdmin
from airflow_kafka_exactly.protocol.claims import Decision, DoubtFacts
from airflow_kafka_exactly.protocol.evidence import Ruling
from airflow_kafka_exactly.protocol.votes import NoticeKind
from airflow_kafka_exactly.runtime.evidence import Ruled, examine, settle

BROKEN = Unavailable("PostgreSQL", "scripted", "canceling statement due to statement timeout")


@pytest.fixture
def contenders() -> Iterator[Contenders]:
    made = Contenders()
    yield made
    made.stop()


@pytest.mark.parametrize("error", [BROKEN, ValueError("of nobody knows where")])
def test_l1_a_life_that_cannot_be_fenced_stops_no_other(contenders: Contenders, error: Exception) -> None:
    ledger = contenders.ledger
    ledger.poisoned = {"poisoned": error}
    contenders.add()
    leader = contenders.leader()
    ledger.late = [life("poisoned"), life("b"), life("c", group="another")]
    eventually("the others are fenced", lambda: len(ledger.fenced) == 2)
    assert [x.slot for x in ledger.fenced] == ["b", "c"]
    eventually("it is seen", lambda: "life 1 of poisoned" in leader.state().error)
    assert leader.state().leads
    ledger.poisoned.clear()
    eventually("it is tried again", lambda: [x.slot for x in ledger.fenced] == ["b", "c", "poisoned"])
    eventually("it is forgotten", lambda: leader.state().error == "")


def test_l1_one_groups_foreign_exception_stops_the_draining_of_no_other() -> None:
    """A callback of its connection that is not installed where the coordinator runs, for example."""
    ledger = ScriptedLedger(known={"aaa": [], "zzz": []})
    ledger.orphans = {1: replace(orphan(1), group_id="aaa"), 2: replace(orphan(2), group_id="zzz")}
    ledger.frontiers = {P0: 20}
    admin = ScriptedAdmin(offsets={P0: 10}, empty=True)

    def admins(group: str) -> KafkaAdmin:
        if group == "aaa":
            raise ImportError("No module named 'team_a.callbacks'")
        return admin

    contenders = Contenders(ledger)
    made = contenders.add(admins)
    try:
        eventually("the other is drained", lambda: 2 in ledger.drained)
        eventually(
            "why the first one waits is seen",
            lambda: (
                {g.group_id: g.orphans_wait for g in made.state().groups}["aaa"]
                == "ImportError: No module named 'team_a.callbacks'"
            ),
        )
    finally:
        contenders.stop()


def test_l1_one_groups_failure_keeps_no_other_from_hearing_of_released_doubts(contenders: Contenders) -> None:
    ledger = contenders.ledger
    ledger.poisoned, ledger.released = {"aaa": BROKEN}, 3
    contenders.add()
    leader = contenders.leader()
    contenders.link(leader, life(group="aaa"))
    told = contenders.link(leader, life())
    eventually("the other is told", lambda: [n.kind for n in told.notices()] == [NoticeKind.RELEASED_DOUBTS])
    eventually("it is seen", lambda: "group aaa: " in leader.state().error)
    assert f"group {GROUP}:" not in leader.state().error


# -- evidence ----------------------------------------------------------------------------------------------------------


class Poisoned(JustDoubts):
    """Doubt 1 cannot be written."""

    error: Exception = ValueError("odd text")
    away = False

    def facts_of(self, doubt_ids: object) -> list[DoubtFacts]:
        if self.away:
            raise Unavailable("PostgreSQL", "scripted", "it is down")
        return list(super().facts_of(doubt_ids))  # type: ignore[arg-type]

    def decide(self, decision: Decision) -> bool:
        if decision.doubt_id == 1:
            raise self.error
        return super().decide(decision)


def three() -> Poisoned:
    return Poisoned(*(raised(doubt_id=n, check=CHECK) for n in (1, 2, 3)))


@pytest.mark.parametrize("error", [BROKEN, ValueError("odd text")])
def test_l1_a_doubt_that_cannot_be_decided_strands_no_neighbour(error: Exception) -> None:
    ledger = three()
    ledger.error = error
    examined = examine(ledger, [1, 2, 3], lambda _: lambda _: True)
    assert examined.decided == [2, 3]
    assert list(examined.failed) == [1]
    assert ledger.doubts[1].state == "open"


def test_a_ruling_that_cannot_be_written_strands_no_neighbour() -> None:
    ledger = three()
    rulings = [
        Ruled(doubt_id=n, version=ledger.doubts[n].version, ruling=Ruling.HAPPENED, person="ann")
        for n in (1, 2, 3)
    ]
    examined = settle(ledger, rulings)
    assert (examined.decided, list(examined.failed)) == ([2, 3], [1])


def test_a_ledger_that_is_away_for_all_ends_the_run_so_that_it_is_tried_again() -> None:
    ledger = three()

    def check(_: object) -> bool:
        ledger.away = True
        return True

    ledger.error = BROKEN
    with pytest.raises(Unavailable):
        examine(ledger, [1, 2, 3], lambda _: check)
