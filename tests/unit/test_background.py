"""The threads of one member: the first failure ends them all; waits have ends."""

import signal
import threading

import pytest

from airflow_kafka_exactly.adapters.guard import BootClock
from airflow_kafka_exactly.errors import Fenced, Unavailable
from airflow_kafka_exactly.runtime.background import Background, Stopped
from airflow_kafka_exactly.stopping import StopRequest


@pytest.fixture
def background() -> Background:
    return Background("test", BootClock(), outage_limit_s=0.3)


def test_the_first_failure_of_a_thread_is_raised_where_the_member_waits(background: Background) -> None:
    def fail() -> None:
        raise Fenced("over")

    background.spawn("job", fail)
    with pytest.raises(Fenced, match="over"):
        background.pause(30)
    background.fail(ValueError("later"))
    with pytest.raises(Fenced):
        background.check()


def test_persist_asks_until_there_is_an_answer(background: Background) -> None:
    answers = iter([Unavailable("PostgreSQL", "c", "down"), Unavailable("PostgreSQL", "c", "down"), 7])

    def ask() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    background = Background("test", BootClock())
    assert background.persist(ask, "asking") == 7


def test_persist_has_a_limit_and_ends_when_the_member_stops(background: Background) -> None:
    def ask() -> int:
        raise Unavailable("PostgreSQL", "c", "down")

    with pytest.raises(Unavailable):
        background.persist(ask, "asking")
    threading.Timer(0.05, background.stopping.set).start()
    with pytest.raises(Stopped):
        Background.persist(background, ask, "asking")


def test_a_signal_during_a_wait_stops_the_member_and_does_not_hang_it(background: Background) -> None:
    request = StopRequest()
    before = signal.signal(signal.SIGALRM, lambda *_: request.make())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with request.passed_to(background.stopping), pytest.raises(Stopped):
            background.pause(30)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_stop_that_was_asked_for_before_there_was_a_member_reaches_it(background: Background) -> None:
    request = StopRequest()
    request.check()
    request.make()
    with pytest.raises(Stopped):
        request.check()
    with request.passed_to(background.stopping):
        assert background.stopping.wait(30)


def test_a_request_that_was_not_made_stops_nobody(background: Background) -> None:
    with StopRequest().passed_to(background.stopping):
        pass
    assert not background.stopping.is_set()


def test_stop_waits_for_threads_that_end(background: Background) -> None:
    ended = threading.Event()

    def job() -> None:
        background.stopping.wait()
        ended.set()

    background.spawn("job", job)
    background.stop(10)
    assert ended.is_set()
