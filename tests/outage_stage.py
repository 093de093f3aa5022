"""A runner, a target that can be away or refuse records, and the memory ledger between them. In virtual time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ledger_stage import ManualClock, Stage

from airflow_kafka_exactly.adapters.guard import NoGuard
from airflow_kafka_exactly.adapters.memory.ledger import MemoryLedger
from airflow_kafka_exactly.protocol.claims import DoubtState
from airflow_kafka_exactly.protocol.summary import Summary
from airflow_kafka_exactly.runtime.background import Background
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.running import Runner, Work

GRACE_S = 600.0


class Waits:
    """The event that ends a member; a wait for it lets virtual time pass."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock, self._set = clock, False
        self.during: Callable[[], None] = lambda: None

    def wait(self, seconds: float) -> bool:
        self._clock.sleep(seconds)
        self.during()
        return self._set

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True


class Target:
    """Where effects go. `down(now)` and `poison` say which calls fail."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.down: Callable[[float], bool] = lambda _: False
        self.poison: frozenset[int] = frozenset()
        self.effects: Counter[int] = Counter()
        self.calls: list[int] = []

    def __call__(self, given: Any, cursor: Any = None) -> None:
        records = given if isinstance(given, list) else [given]
        self.calls.append(records[0].offset)
        self.clock.sleep(0.001)
        if self.down(self.clock.now() - 1000.0):
            raise ConnectionError("the target is down")
        if self.poison & {r.offset for r in records}:
            raise ValueError("cannot be applied")
        for record in records:
            self.effects[record.offset] += 1
            if cursor is not None:
                cursor.execute("effect", record.offset)


class Armed(NoGuard):
    """A guard that only knows whether it would end this process."""

    def __init__(self) -> None:
        self.armed = False

    def begin(self) -> None:
        self.armed = True

    def end(self) -> None:
        self.armed = False


class Scene:
    def __init__(self, **function: Any) -> None:
        self.clock = ManualClock()
        self.stage = Stage(MemoryLedger(self.clock))
        self.target, self.summary = Target(self.clock), Summary()
        self.life = self.stage.life("a")
        background = self.background = Background("a", self.clock)
        self.waits = Waits(self.clock)
        background.stopping = self.waits  # type: ignore[assignment]
        settings = SimpleNamespace(
            window_s=0.2, max_attempts=3, effect_timeout_s=0.0, retry_delay_s=1.0, outage_grace_s=GRACE_S
        )
        settings.__dict__.update(function.pop("settings", {}))
        self.shared: Any = SimpleNamespace(
            life=self.life, cluster_id="c", settings=settings, ledger=self.stage.member, clock=self.clock,
            background=background, summary=self.summary, chance=random.Random(1).random,
        )  # fmt: skip
        self.function = UserFunction(**{"apply": self.target, "vouches": True, **function})
        self.unit = self.function.unit
        self.restart()

    def restart(self) -> None:
        """A new process: it knows what the ledger knows."""
        self.waits._set = False
        lease: Any = SimpleNamespace(trusted=lambda: True, await_trust=lambda: None)
        self.guard = Armed()
        self.runner = Runner(self.shared, self.function, lease, self.guard, lambda *_: None)

    def run(self, count: int, *, at_once: int = 1000, ours: Callable[[], bool] = lambda: True) -> None:
        """Claim and run `[frontier, frontier + count)`, claim by claim, and again what is to be tried later, as a member does."""
        start = self.frontier()
        for begin in range(start, start + count, at_once):
            stop = min(begin + at_once, start + count)
            rest: int | None = begin
            while rest is not None:
                claim = self.stage.claim(self.life, rest, stop, unit=self.unit)
                rest = self.runner.run(Work(claim, tuple(self.stage.records(rest, stop)), ours))
                while rest is not None and self.runner.resting:
                    if not ours():
                        return
                    self.background.pause(0.2)

    def place(self) -> Any:
        return next(iter(self.stage.ledger.state.places.values()), None)

    def frontier(self) -> int:
        return int(self.place().frontier) if self.place() else 0

    def dead(self) -> list[int]:
        return sorted(letter.record.offset for letter in self.place().letters)

    def questions(self) -> list[int]:
        return sorted(o for d in self.place().doubts if d.state is DoubtState.OPEN for o in d.records)

    def elapsed_s(self) -> float:
        return self.clock.now() - 1000.0
