"""A triggerer's open files: the limit is raised once, and a waiting member that finds no room is sent back to its worker."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_kafka_exactly import descriptors, triggered
from airflow_kafka_exactly.descriptors import PRICE, Descriptors
from airflow_kafka_exactly.runtime.background import Stopped
from airflow_kafka_exactly.runtime.until import Ending, Until
from airflow_kafka_exactly.stopping import StopRequest


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The soft and the hard one, as the process has them."""
    now = [1024, 65_536]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(now))
    monkeypatch.setattr(resource, "setrlimit", lambda _, given: now.__setitem__(slice(None), given))
    return now


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many are open."""
    now = [100]
    monkeypatch.setattr(descriptors, "open_now", lambda: now[0])
    return now


def test_the_first_member_raises_the_soft_limit_to_the_hard_one(limits: list[int], files: list[int]) -> None:
    asked = Descriptors()
    with asked.room() as has_room:
        assert has_room
        assert limits == [65_536, 65_536]
        limits[0] = 2000  # somebody else's choice, made later, stays
        with asked.room():
            assert limits[0] == 2000


def test_the_limit_is_raised_in_a_real_process() -> None:
    said = (
        "import resource; from airflow_kafka_exactly.descriptors import of_process\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))\n"
        "with of_process.room() as room: print(room, *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "200", "200"]


def test_a_limit_that_cannot_be_raised_is_kept_and_said(
    limits: list[int], files: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    with Descriptors().room() as has_room:
        assert has_room
    assert "stays at 1024: not allowed" in caplog.text


def admitted(asked: Descriptors, held: contextlib.ExitStack, at_most: int) -> int:
    for n in range(at_most):
        if not held.enter_context(asked.room()):
            return n
    return at_most


def test_many_that_start_at_once_are_counted_before_they_have_opened_anything(
    limits: list[int], files: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    limits[:] = [1024, 1024]
    with contextlib.ExitStack() as held:
        assert admitted(Descriptors(), held, 200) == (768 - 100) // PRICE
    assert "no room for one more waiting member" in caplog.text
    assert "1024" in caplog.text


def test_who_ends_makes_room_and_files_of_others_take_it(limits: list[int], files: list[int]) -> None:
    limits[:], asked = [1024, 1024], Descriptors()
    with contextlib.ExitStack() as held:
        assert admitted(asked, held, 200) == 41
    with asked.room() as has_room:
        assert has_room
    files[0] = 760
    with asked.room() as has_room:
        assert not has_room


def test_three_hundred_with_three_brokers_fit_into_the_hard_limit_of_a_usual_machine(
    limits: list[int], files: list[int]
) -> None:
    with contextlib.ExitStack() as held:
        assert admitted(Descriptors(), held, 300) == 300


def test_what_is_open_is_counted_by_the_system() -> None:
    before = descriptors.open_now()
    opened = os.pipe()
    assert descriptors.open_now() == before + 2
    for one in opened:
        os.close(one)


# -- the trigger and its task ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_room() -> Iterator[bool]:
    yield False


def arguments(**more: Any) -> dict[str, Any]:
    until = Until(to_end=False, defer_when_idle_s=1.5).as_dict()
    return {"slot": "dag.consume", "summary": {}, "until": until, "deadline": None, **more}


def test_a_trigger_without_room_opens_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors.of_process, "room", no_room)
    monkeypatch.setattr(triggered.Waiter, "_wait", lambda _: pytest.fail("it opens"))
    event = triggered.Waiter(arguments(), threading.Event()).run()
    assert event is not None
    assert event["ending"] == Ending.NO_ROOM


def test_its_task_goes_on_in_the_worker_and_asks_again_only_after_minutes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    operators = pytest.importorskip("airflow_kafka_exactly.operators")
    operator = operators.KafkaExactlyOnceOperator(task_id="t", topics="t", apply_function="applied.apply")
    seen: list[float | None] = []

    def stint(_context: Any, _summary: Any, until: Until, _deadline: Any) -> dict[str, Any]:
        seen.append(until.defer_when_idle_s)
        return until.as_dict()

    monkeypatch.setattr(operator, "_stint", stint)
    event = {**arguments(), "summary": operators.Summary().as_dict()}
    until = operator.resume({}, {**event, "ending": "no_room"})
    assert "stays in its worker" in caplog.text
    operator.resume({}, {**event, "until": until, "ending": "records"})
    assert seen == [operators.STAY_S, operators.DEFER_WHEN_IDLE_S], "the next wait is a usual one"


def test_a_pause_of_a_task_ends_with_its_request_to_stop() -> None:
    request, since = StopRequest(), time.monotonic()
    request.pause(0.01)
    threading.Timer(0.05, request.make).start()
    with pytest.raises(Stopped):
        request.pause(20)
    assert time.monotonic() - since < 10
