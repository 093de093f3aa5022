"""Faults to plant in what a member does while the target is away."""

from __future__ import annotations

from typing import Any

from simulation.planted_ledger import planted

from airflow_kafka_exactly.protocol.breaker import OPENS_AT, Breaker, Patience
from airflow_kafka_exactly.runtime.running import Runner


@planted
def breaker_never_opens() -> None:
    failed = Breaker.failed

    def closed(self: Any, *given: Any, **how: Any) -> None:
        failed(self, *given, **how)
        self.open = False

    Breaker.failed = closed  # type: ignore[method-assign]
    Breaker.nothing_else = lambda *_: None  # type: ignore[method-assign]


@planted
def backlog_is_buried_in_an_outage() -> None:
    """What has used up its attempts is a dead letter, whoever's fault it is."""
    Breaker.blames = lambda self, history, **_: history.attempts >= self.patience.max_attempts  # type: ignore[method-assign]


@planted
def grace_not_looked_at() -> None:
    blames = Breaker.blames

    def hasty(self: Any, history: Any, *, alone: bool) -> bool:
        used_up = history.attempts >= self.patience.max_attempts
        return (self._last == history.key and used_up) if self.open else blames(self, history, alone=alone)

    Breaker.blames = hasty  # type: ignore[method-assign]


@planted
def open_breaker_buries_all_that_waited() -> None:
    """Not only the one that was probed."""
    blames = Breaker.blames

    def many(self: Any, history: Any, *, alone: bool) -> bool:
        if self.open:
            self._last = history.key
        return blames(self, history, alone=alone)

    Breaker.blames = many  # type: ignore[method-assign]


@planted
def the_same_record_is_always_probed() -> None:
    def first(self: Any) -> Any:
        waiting = self._aside.waiting
        if not self._breaker.quiet and self._more and len(waiting) < OPENS_AT:
            return None
        if not self._breaker.quiet:
            self._breaker.nothing_else(self._of.clock.now(), self._chance())
        return waiting[0]

    Runner._next_try = first  # type: ignore[method-assign]


@planted
def back_off_ignored() -> None:
    Runner._await_turn = lambda *_: True  # type: ignore[method-assign]


@planted
def back_off_does_not_grow() -> None:
    Patience.delay = lambda self, *_: self.delay_s * 0.75  # type: ignore[method-assign]


@planted
def neighbours_are_not_tried() -> None:
    """A success before the outage convicts the first record of it, though others could be tried."""
    blames = Breaker.blames
    Breaker.blames = lambda self, history, **_: blames(self, history, alone=True)  # type: ignore[method-assign]
