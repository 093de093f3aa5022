"""A trigger exists because a worker has read these connections and reached these services: what it misses is away."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from stage import EXAMPLES

from airflow_kafka_exactly import connections, hooks, triggered, triggers, wiring
from airflow_kafka_exactly.errors import (
    ConfigurationError,
    ConnectionMissing,
    PeerRefused,
    SchemaTooNew,
    Unavailable,
)
from airflow_kafka_exactly.outages import passes
from airflow_kafka_exactly.runtime.background import Stopped
from airflow_kafka_exactly.runtime.until import Ending

ARGUMENTS: dict[str, Any] = {
    "kafka_config_id": "my_kafka",
    "group_id": "g",
    "topics": ["t"],
    "slot": "dag.task",
    "owner": "me",
    "session_timeout_s": 45.0,
    "max_batch_records": 10,
    "on_busy": "wait",
    "adopt_offsets": False,
    "until": {},
    "summary": {},
    "deadline": None,
}


@pytest.fixture(autouse=True)
def a_new_triggerer(monkeypatch: pytest.MonkeyPatch) -> None:
    for conn_id, fields in EXAMPLES.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
    monkeypatch.setattr(hooks, "_found", set())
    monkeypatch.setattr(triggered, "PAUSE_MAX_S", 0.01)
    monkeypatch.setattr(triggers, "THREAD_AGAIN_S", 0.01)
    monkeypatch.setattr(wiring, "hosted_contender", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(wiring, "member_ports", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(triggered.Waiter, "_await_work", lambda *_: Ending.RECORDS)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str, list[BaseException]], None]:
    """`owner.name` raises each of the failures once, and is itself again then."""

    def make(owner: Any, name: str, failures: list[BaseException]) -> None:
        really = getattr(owner, name)

        def fails(*args: Any, **kwargs: Any) -> Any:
            if failures:
                raise failures.pop(0)
            return really(*args, **kwargs)

        monkeypatch.setattr(owner, name, fails)

    return make


def waited() -> dict[str, Any]:
    event = triggered.Waiter(ARGUMENTS, threading.Event()).run()
    assert event is not None
    return event


NOT_FOUND = "The conn_id `kafka_exactly_ledger` isn't defined"
AWAY = {
    "a secrets backend": (BaseHook, "get_connection", lambda: AirflowNotFoundException(NOT_FOUND)),
    "access": (BaseHook, "get_connection", lambda: PermissionError("Access denied for connection")),
    "a key": (BaseHook, "get_connection", lambda: ValueError("cannot be decrypted")),
    "a file": (wiring, "member_ports", lambda: OSError(errno.EMFILE, "Too many open files")),
    "a thread": (wiring, "hosted_contender", lambda: RuntimeError("can't start new thread")),
    "memory": (wiring, "member_ports", MemoryError),
    "a thread for a life": (
        triggered.Waiter, "_await_work", lambda: RuntimeError("can't start new thread"),
    ),
    "a leader with this secret": (triggered.Waiter, "_await_work", lambda: PeerRefused("another secret")),
}  # fmt: skip


@pytest.mark.parametrize("what", AWAY)
def test_a_trigger_waits_for_what_its_worker_had(
    what: str, failing: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    owner, name, failure = AWAY[what]
    failures = [failure() for _ in range(5)]
    failing(owner, name, failures)
    assert waited()["ending"] == Ending.RECORDS
    assert not failures
    assert len([r for r in caplog.records if "waits" in r.getMessage()]) == 1, "said once"


def test_a_trigger_that_waits_for_a_connection_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_KAFKA_EXACTLY_LEDGER")
    stop = threading.Event()
    asked = threading.Semaphore(0)
    patience = triggered.Patience("dag.task", stop)

    def ask() -> Any:
        asked.release()
        return hooks.service_settings()

    def wait() -> None:
        with contextlib.suppress(Stopped):
            patience.persist(ask)

    waiting = threading.Thread(target=wait)
    waiting.start()
    for _ in range(3):
        assert asked.acquire(timeout=30)
    stop.set()
    waiting.join(30)
    assert not waiting.is_alive()


@pytest.mark.parametrize(
    "wrong",
    [
        ConfigurationError("[kafka_exactly] lease_s = 'soon' is no number"),
        SchemaTooNew("upgrade"),
        RuntimeError("the ledger was opened in another process"),
        AssertionError("S1"),
    ],
)
def test_what_cannot_work_at_all_is_not_waited_for(wrong: Exception) -> None:
    assert not passes(wrong)


def test_a_worker_that_has_just_started_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, failing: Callable[..., None]
) -> None:
    failing(BaseHook, "get_connection", [PermissionError("Access denied")])
    with pytest.raises(Unavailable, match=r"Airflow \(connection 'kafka_exactly_ledger'\).*Access denied"):
        hooks.service_settings()
    monkeypatch.delenv("AIRFLOW_CONN_KAFKA_EXACTLY_LEDGER")
    with pytest.raises(ConnectionMissing, match="airflow connections add kafka_exactly_ledger"):
        hooks.service_settings()


def test_a_file_of_a_connection_that_nobody_can_open_now_is_not_a_wrong_one(
    monkeypatch: pytest.MonkeyPatch, failing: Callable[..., None]
) -> None:
    extra = {"tls_ca_file": os.devnull}
    fields = {**EXAMPLES["kafka_exactly_channel"], "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_EXACTLY_CHANNEL", json.dumps(fields))
    failing(Path, "read_bytes", [OSError(errno.EMFILE, "Too many open files"), FileNotFoundError("gone")])
    found = hooks._connection(hooks.CHANNEL, "kafka_exactly_channel")
    with pytest.raises(OSError, match="Too many open files"):
        connections.channel_settings(found)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        connections.channel_settings(found)


async def test_a_trigger_for_which_there_is_no_thread_starts_when_there_is_one(
    failing: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    failing(threading.Thread, "start", [RuntimeError("can't start new thread") for _ in range(3)])
    assert await asyncio.wait_for(triggers.in_a_thread(lambda: "done", "dag.task"), 30) == "done"
    assert len([r for r in caplog.records if "waits for a thread" in r.getMessage()]) == 1


def test_the_announcer_waits_for_its_connections_too(
    failing: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow would not start another one."""
    failures: list[BaseException] = [AirflowNotFoundException(NOT_FOUND) for _ in range(2)]
    failing(BaseHook, "get_connection", failures)
    opened, stop = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def ledger(_: Any) -> Iterator[Any]:
        opened.set()
        stop.set()
        yield None

    monkeypatch.setattr(wiring, "shared_ledger", ledger)
    triggered.announce(stop, 0.0, lambda _: None)
    assert opened.is_set()
    assert not failures
