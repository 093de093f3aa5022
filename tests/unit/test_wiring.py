"""How a leader finds the cluster of a group, and what a process shares."""

import os
from typing import Any

import pytest

from airflow_kafka_exactly.errors import ConfigurationError
from airflow_kafka_exactly.settings import KafkaSettings
from airflow_kafka_exactly.wiring import Clusters, _PerProcess


def resolved(connection: str) -> dict[str, Any]:
    if connection == "gone":
        raise ConfigurationError("connection 'gone' is not defined")
    return {"bootstrap.servers": f"{connection}:9092"}


def nothing_recorded(_: str) -> str:
    return ""


def test_nothing_is_known_without_a_way_to_resolve_connections() -> None:
    assert Clusters().admin("group", lambda _: "kafka_a") is None


def test_one_admin_for_all_groups_of_a_connection() -> None:
    clusters = Clusters()
    clusters.resolve_with(resolved, "kafka_default")
    recorded = {"g1": "kafka_a", "g2": "kafka_a", "g3": "kafka_b"}.get
    admins = [clusters.admin(g, lambda g: recorded(g, "")) for g in ("g1", "g2", "g3", "g4")]
    assert admins[0] is admins[1]
    assert len({id(a) for a in admins}) == 3
    assert admins[3] is clusters.admin("g5", nothing_recorded), "the default one"


def test_what_this_process_consumes_needs_no_lookup() -> None:
    clusters = Clusters()
    clusters.know(
        KafkaSettings(connection="c", config={"bootstrap.servers": "k:9092"}, group_id="mine", topics=("t",))
    )
    assert clusters.admin("mine", lambda _: pytest.fail("asked the ledger")) is not None


def test_a_connection_that_is_gone_is_said_and_tried_again() -> None:
    clusters = Clusters()
    clusters.resolve_with(resolved, "")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="gone"):
            clusters.admin("group", lambda _: "gone")


def test_shared_values_are_closed_with_their_last_holder() -> None:
    shared, made, closed = _PerProcess(), [], []

    def make() -> int:
        made.append(len(made))
        return made[-1]

    with shared.shared("key", make, closed.append) as first:
        with shared.shared("key", make, closed.append) as second:
            assert (first, second, closed) == (0, 0, [])
        assert closed == []
    assert closed == [0]
    with shared.shared("key", make, closed.append) as third:
        assert third == 1


def test_a_fork_shares_nothing_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    shared, closed = _PerProcess(), []
    with shared.shared("key", lambda: "parent's", closed.append):
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with shared.shared("key", lambda: "child's", closed.append) as value:
            assert value == "child's"
        assert closed == ["child's"]
        monkeypatch.undo()
    assert closed == ["child's", "parent's"]
