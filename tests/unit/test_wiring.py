"""How a leader finds the cluster of a group, and what a process shares."""

import contextlib
import linecache
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.adapters.kafka import ClusterAdmin
from airflow_kafka_exactly.errors import ConfigurationError, Unavailable
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


def test_a_changed_connection_reaches_the_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    clusters, brokers = Clusters(), ["old:9092"]
    clusters.resolve_with(lambda _: {"bootstrap.servers": brokers[0]}, "kafka_default")
    first = clusters.admin("g", nothing_recorded)
    brokers[0] = "new:9092"
    assert clusters.admin("g", nothing_recorded) is first, "not at each look"
    monkeypatch.setattr(wiring, "RESOLVE_AGAIN_S", 0.0)
    second = clusters.admin("g", nothing_recorded)
    assert isinstance(second, ClusterAdmin)
    assert second is not first
    assert second._config["bootstrap.servers"] == "new:9092"
    assert clusters.admin("g", nothing_recorded) is second, "nothing has changed"


def test_members_and_leader_of_a_process_share_one_admin_client() -> None:
    clusters, kafka = Clusters(), kafka_settings("a")
    clusters.know(kafka)
    assert (
        wiring.admin_of(kafka)
        is wiring.admin_of(kafka_settings("b"))
        is clusters.admin("a", nothing_recorded)
    )
    assert wiring.admin_of(replace(kafka, config={"bootstrap.servers": "other:9092"})) is not wiring.admin_of(
        kafka
    )


def kafka_settings(group: str) -> KafkaSettings:
    return KafkaSettings(
        connection="c", config={"bootstrap.servers": "k:9092"}, group_id=group, topics=("t",)
    )


def test_those_who_wait_for_a_value_hear_of_one_failure_and_the_next_one_tries_again() -> None:
    shared, may_fail, asked = _PerProcess(), threading.Event(), []

    def make() -> str:
        asked.append("once")
        assert may_fail.wait(30)
        raise Unavailable("PostgreSQL", "test", "away")

    def use() -> Exception | None:
        try:
            with shared.shared("key", make, lambda _: None):
                return None
        except Unavailable as away:
            return away

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(use) for _ in range(8)]
        while len(shared._held["key"].holders) < 8:
            time.sleep(0.01)
        may_fail.set()
        assert all(isinstance(w.result(30), Unavailable) for w in waiting)
    assert asked == ["once"]
    with shared.shared("key", lambda: "there again", lambda _: None) as value:
        assert value == "there again"


class Interrupted(BaseException):
    """A task's time-out, or Ctrl-C."""


def interrupted_at(number: int, run: Callable[[], None]) -> bool:
    """`run`, ended before the `number`th line of wiring that it runs; whether it came so far. Between the body of a `with` and
    its exit, which tracing shows as the same line once more, Python itself lets no signal in."""
    left, before, entered = [number], sys.gettrace(), set[tuple[FrameType, int]]()

    def line(frame: FrameType, event: str, _arg: Any) -> Any:
        here = (frame, frame.f_lineno)
        leaves = here in entered and "with " in linecache.getline(wiring.__file__, frame.f_lineno)
        entered.add(here)
        if event == "line" and not leaves:
            left[0] -= 1
            if left[0] == 0:
                raise Interrupted
        return line

    sys.settrace(lambda frame, *_: line if frame.f_code.co_filename == wiring.__file__ else None)
    try:
        run()
    except Interrupted:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("fails", [False, True])
def test_nobody_waits_for_ever_for_a_value_whose_maker_is_interrupted_at_any_line(fails: bool) -> None:
    for number in range(1, 100):
        shared, others, heard = _PerProcess(), [], []

        def use(shared: _PerProcess = shared, heard: list[object] = heard) -> None:
            try:
                with shared.shared("key", lambda: "another's", lambda _: None) as value:
                    heard.append(value)
            except Unavailable as away:
                heard.append(away)

        def make(shared: _PerProcess = shared, others: list[threading.Thread] = others) -> str:
            others.append(threading.Thread(target=use))
            others[0].start()
            while len(shared._held["key"].holders) < 2:
                time.sleep(0.001)
            if fails:
                raise Unavailable("PostgreSQL", "test", "away")
            return "made"

        def share(shared: _PerProcess = shared, make: Callable[[], str] = make) -> None:
            with (
                contextlib.suppress(Unavailable),
                shared.shared("key", make, lambda _: None) as value,
            ):
                assert value == "made"

        reached = interrupted_at(number, share)
        for other in others:
            other.join(30)
            assert not other.is_alive(), f"line {number}"
            assert len(heard) == 1
        use()
        assert isinstance(heard[-1], str), "whoever comes next has a value"
        if not reached:
            break
    assert not reached, "every line was reached"
    assert number > 15
