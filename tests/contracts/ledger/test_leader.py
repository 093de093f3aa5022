"""What a leader reads (section 5, S6)."""

from __future__ import annotations

import numpy as np
from ledger_stage import GROUP, PLACE, Stage

from airflow_kafka_exactly.protocol.claims import Verdict
from airflow_kafka_exactly.protocol.record import Partition
from airflow_kafka_exactly.protocol.votes import Fact


def test_epochs_only_grow(stage: Stage) -> None:
    first, second = stage.leader.raise_epoch("one"), stage.leader.raise_epoch("two")
    assert second == first + 1
    assert stage.report.status()["leader"] == "two"
    assert stage.report.status()["epoch"] == second


def test_one_fact_for_each_offset(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    stage.apply(a, stage.claim(a, 0, 2))
    claim = stage.claim(a, 2, 6)
    stage.mark(a, claim, 4, 3)
    stage.ask(b, stage.part(5, 6))
    stage.apply(b, stage.claim(b, 7, 8))
    stage.doubt(b, 9, 11)
    stage.decide(stage.doubts()[1], Verdict.NOT_APPLIED)
    stage.decide(stage.doubts()[2], Verdict.APPLIED)
    judged = stage.leader.facts(GROUP, PLACE, np.arange(12, dtype=np.int64))
    known = {0: "S", 1: "S", 2: "S", 3: "C", 4: "C", 5: "D", 6: "U", 7: "S", 8: "U", 9: "D", 10: "S", 11: "U"}
    assert [fact.name[0] for fact in judged] == list(known.values())
    scattered = stage.leader.facts(GROUP, PLACE, np.array([9, 0, 6], dtype=np.int64))
    assert list(scattered) == [Fact.DOUBTED, Fact.SETTLED, Fact.UNKNOWN]
    assert list(stage.leader.facts(GROUP, PLACE, np.array([], dtype=np.int64))) == []


def test_nothing_is_known_of_another_topic(stage: Stage) -> None:
    stage.life()
    other = Partition("topic-id-9", 0, "payments-in")
    assert list(stage.leader.facts(GROUP, other, np.array([0], dtype=np.int64))) == [Fact.UNKNOWN]
    assert stage.leader.load("no such group").ranges == []


def test_s6_a_leader_loads_claims_doubts_and_orphans(stage: Stage) -> None:
    a = stage.life("a")
    stage.apply(a, stage.claim(a, 0, 2))
    stage.claim(a, 2, 4)
    stage.doubt(a, 6, 7)
    ranges = {(r.start, r.stop) for _, r in stage.leader.load(GROUP).ranges}
    assert ranges == {(0, 2), (2, 4), (6, 7)}
    assert stage.leader.groups() == [GROUP]
    assert stage.leader.progress(GROUP) == {PLACE: 2}
