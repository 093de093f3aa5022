"""What becomes of doubts whose payload cannot come any more: the leader's part, and that announcing never ends."""

import threading
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from doubts import JustDoubts, window
from ledger_stage import GROUP, PLACE, TOPIC, MemoryStage

from airflow_kafka_exactly import triggered
from airflow_kafka_exactly.errors import TopicMissing, Unavailable
from airflow_kafka_exactly.protocol.claims import DoubtFacts
from airflow_kafka_exactly.runtime.draining import DELETED, Draining


class Cluster:
    """A `KafkaAdmin` of one topic, whose id may change."""

    def __init__(self) -> None:
        self.topic_id: str | None = PLACE.topic_id

    def topics(self, names: Sequence[str]) -> Mapping[str, Any]:
        if self.topic_id is None:
            raise TopicMissing(f"topic {names[0]!r} does not exist")
        return {TOPIC: SimpleNamespace(topic_id=self.topic_id)}

    def committed(self, *_: object) -> Mapping[Any, int]:
        return {}


def draining(stage: MemoryStage, cluster: Cluster) -> Draining:
    world: Any = SimpleNamespace(ledger=stage.leader, clock=stage.clock)
    leading: Any = SimpleNamespace(epoch=stage.new_epoch(), must_lead=lambda: None, groups=lambda: [GROUP])
    admin: Any = cluster
    return Draining(world, leading, lambda _: admin)


def a_window_without_payload(stage: MemoryStage) -> None:
    life = stage.life("a")
    stage.mark(life, stage.claim(life, 0, 3), 3, 0)
    stage.die(life)


def test_l1_the_leader_closes_what_a_topic_left_that_was_deleted_and_made_again() -> None:
    stage, cluster = MemoryStage(), Cluster()
    a_window_without_payload(stage)
    leader = draining(stage, cluster)
    leader.round()
    assert stage.outcomes() == {(0, 3): None}, "it may still be delivered"
    cluster.topic_id = "another id"
    stage.pass_time(60)
    leader.round()
    assert stage.outcomes() == {(0, 3): "lost"}
    (row,) = stage.report.doubts(GROUP, False)
    assert row["evidence"]["why"] == DELETED
    assert stage.report.status()["doubts_lost"] == 1
    assert ("doubt", row["doubt_id"], "lost", f"epoch {stage.epoch}") in stage.state.audit


def test_a_topic_that_a_broker_does_not_know_is_not_taken_for_deleted() -> None:
    """A broker that has just started may not know it yet, and the doubts' records may still come."""
    stage, cluster = MemoryStage(), Cluster()
    a_window_without_payload(stage)
    cluster.topic_id = None
    draining(stage, cluster).round()
    assert stage.outcomes() == {(0, 3): None}


class Odd(JustDoubts):
    """Fails in one way after the other before it answers."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__(window())
        self.failures = list(failures)

    def announce(self, limit: int, again_after_s: float) -> Sequence[DoubtFacts]:
        if self.failures:
            raise self.failures.pop(0)
        return super().announce(limit, again_after_s)


def test_l1_an_odd_failure_does_not_end_announcing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, stop = (
        Odd(ValueError("no calendar"), Unavailable("PostgreSQL", "ledger", "away")),
        threading.Event(),
    )
    monkeypatch.setattr(triggered, "_contend", lambda _: SimpleNamespace(evidence=ledger))
    monkeypatch.setattr(triggered, "PAUSE_MAX_S", 0.01)
    announced: list[Mapping[str, Any]] = []

    def hand_over(announcement: Mapping[str, Any]) -> None:
        announced.append(announcement)
        stop.set()

    triggered.announce(stop, 0.0, hand_over)
    assert announced == [{"doubts": [7], "groups": ["g"]}]
    assert "no calendar" in caplog.text
