"""A request to stop that a signal handler may make at any moment, also before there is anything to stop."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator

from airflow_kafka_exactly.runtime.background import Stopped


class StopRequest:
    """The handler runs between two steps of whatever the main thread does, perhaps under a lock that it would wait for without
    end: so it sets no event and starts no thread. A `SimpleQueue` is made to be put to from there."""

    def __init__(self) -> None:
        self.made = False
        self._told: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def make(self) -> None:
        self.made = True
        self._told.put(True)

    def check(self) -> None:
        if self.made:
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Not longer than until the request is made."""
        with contextlib.suppress(queue.Empty):
            self._told.get(timeout=seconds)
        self.check()

    @contextlib.contextmanager
    def passed_to(self, stopping: threading.Event) -> Iterator[None]:
        """Inside, `stopping` is set soon after the request is made, or at once when it was made before."""

        def pass_on() -> None:
            if self._told.get():
                stopping.set()

        thread = threading.Thread(target=pass_on, name="kafka-exactly-stop", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._told.put(False)
            thread.join()
