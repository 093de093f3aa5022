"""What a run looks like from outside, twice a second: effects, frontiers, and what Airflow says about its own health."""

import http.client
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psycopg
from demo.books import Books
from demo.payments import Effects

from chaos.stack import ChaosStack

_LOOK_SECONDS = 0.5
_HEALTH_SECONDS = 3.0
_STOP_SECONDS = 30.0
WORLD_ERRORS = (OSError, ValueError, http.client.HTTPException, psycopg.Error)
"""What an observer meets while services are down."""


@dataclass(frozen=True, slots=True)
class Sample:
    at_s: float
    effects: int
    frontiers: Mapping[int, int]


class Observer:
    """A thread with connections of its own, which go around the links. ``samples`` only grows."""

    def __init__(self, stack: ChaosStack, began: float) -> None:
        self._stack, self._began = stack, began
        self._books, self._effects = Books(stack.ledger), Effects(stack.effects)
        self.samples: list[Sample] = []
        self.unhealthy_since: dict[str, float] = {}
        """Of Airflow's scheduler and DAG processor: they can hang as well as end."""
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._every, args=(seconds, look), name=f"observer-{look.__name__}", daemon=True
            )
            for seconds, look in ((_LOOK_SECONDS, self._look), (_HEALTH_SECONDS, self._health))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)

    def effects(self) -> int:
        """As last seen."""
        return self.samples[-1].effects if self.samples else 0

    def next_effect_s(self, after_s: float, effects: int) -> float | None:
        """Seconds from then until there were more effects than these."""
        found = (s.at_s for s in self.samples if s.at_s > after_s and s.effects > effects)
        moment = next(found, None)
        return None if moment is None else moment - after_s

    def settled_s(self, after_s: float, ends: Mapping[int, int]) -> float | None:
        """Seconds from then until all frontiers had reached these offsets."""
        for sample in self.samples:
            if sample.at_s > after_s and all(sample.frontiers.get(n, 0) >= end for n, end in ends.items()):
                return sample.at_s - after_s
        return None

    def _every(self, seconds: float, look: Callable[[], None]) -> None:
        while not self._stop.wait(seconds):
            try:
                look()
            except WORLD_ERRORS:
                continue

    def _look(self) -> None:
        frontiers = {number: row[0] for number, row in self._books.partitions().items()}
        self.samples.append(Sample(time.monotonic() - self._began, self._effects.total(), frontiers))

    def _health(self) -> None:
        report = self._stack.airflow.health()
        if report.get("metadatabase", {}).get("status") != "healthy":
            self.unhealthy_since.clear()  # nobody can say
            return
        for name, key in (("scheduler", "scheduler"), ("dag-processor", "dag_processor")):
            if report.get(key, {}).get("status") == "unhealthy":
                self.unhealthy_since.setdefault(name, time.monotonic())
            else:
                self.unhealthy_since.pop(name, None)
