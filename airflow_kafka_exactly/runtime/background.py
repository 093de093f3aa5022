"""The threads of one member. The first failure stops them all and is raised where the member waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.ports import Clock

log = logging.getLogger(__name__)
T = TypeVar("T")


class Stopped(Exception):
    """The member is closing: a wait ended because nobody needs its result any more."""


class Background:
    def __init__(self, name: str, clock: Clock, outage_limit_s: float = 300.0) -> None:
        self._name, self._clock, self._outage_limit_s = name, clock, outage_limit_s
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self.stopping = threading.Event()

    def spawn(self, job: str, target: Callable[[], None]) -> None:
        """Run `target` in a daemon thread: one that hangs in a client library must not keep the process alive."""
        thread = threading.Thread(
            target=self._guarded, args=(target,), name=f"{self._name}-{job}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _guarded(self, target: Callable[[], None]) -> None:
        try:
            target()
        except Stopped:
            pass
        except BaseException as failure:  # noqa: BLE001 - handed to the member's own thread, which raises it
            self.fail(failure)

    def fail(self, failure: BaseException) -> None:
        with self._lock:
            if self._failure is None:
                self._failure = failure
        self.stopping.set()

    def check(self) -> None:
        """Raise the first failure, or `Stopped` when the member is closing."""
        if self._failure is not None:
            raise self._failure
        if self.stopping.is_set():
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than until the member stops."""
        self.stopping.wait(seconds)
        self.check()

    def persist(self, ask: Callable[[], T], what: str) -> T:
        """Ask until there is an answer. Only for questions that may be asked again: each ledger write is one."""
        since = self._clock.now()
        delay_s = 0.1
        while True:
            try:
                return ask()
            except Unavailable as outage:
                if self._clock.now() - since > self._outage_limit_s:
                    raise
                log.warning("%s: %s; trying again", what, outage)
            self.pause(delay_s)
            delay_s = min(delay_s * 2, 2.0)

    def stop(self, timeout_s: float) -> None:
        """Ask every thread to end and wait for them; one that does not is named in the log."""
        self.stopping.set()
        until = self._clock.now() + timeout_s
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - self._clock.now()))
                if thread.is_alive():
                    log.error("%s did not end within %.0f s", thread.name, timeout_s)
