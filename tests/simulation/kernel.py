"""Virtual time and cooperative tasks. A task is a greenlet of one simulated process; it runs until it parks, and which of the
tasks that could go on does so is drawn from the seed. Nothing here knows what is simulated.

A crashed process's tasks are never resumed, so no `finally` of theirs runs before the run is over: that is what a SIGKILL does.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

import greenlet

TICK_S = 1e-9


class Gone(BaseException):
    """Ends abandoned tasks when a run is over; no `except Exception` catches it."""


class Process:
    """Something that crashes and freezes as a whole. `rate`: how fast its clock runs."""

    def __init__(self, kernel: Kernel, name: str, rate: float = 1.0) -> None:
        self.kernel, self.name, self.rate = kernel, name, rate
        self.alive, self.frozen_until = True, 0.0
        self.busy, self.trusted_until = False, float("inf")
        """Of the effect guard: whether effects may be under way, and until when that is allowed."""
        self.at_death: list[Callable[[], None]] = []

    def now(self) -> float:
        return self.kernel.now * self.rate

    def sleep(self, seconds: float) -> None:
        self.kernel.park(seconds / self.rate)

    @property
    def frozen(self) -> bool:
        return self.frozen_until > self.kernel.now

    def __repr__(self) -> str:
        return self.name


class Task(greenlet.greenlet):
    def __init__(self, run: Callable[[], None], process: Process, name: str, hub: greenlet.greenlet) -> None:
        super().__init__(run, hub)
        self.process, self.name = process, name
        self.parked, self.woken, self.token = False, False, 0
        self.finished = False
        self.interrupt: BaseException | None = None
        """Raised once, where it waits: what a signal's handler raises in a process's main thread."""


class Kernel:
    def __init__(self, chance: random.Random) -> None:
        self.chance, self.now = chance, 0.0
        self.steps, self.over = 0, False
        self.world = Process(self, "world")
        self.failures: list[tuple[Task | None, BaseException]] = []
        self.on_guard: Callable[[Process], None] = lambda _: None
        self._hub = greenlet.getcurrent()
        self._ready: list[Task] = []
        self._timers: list[tuple[float, int, Any, int]] = []
        self._numbers = 0
        self._tasks: list[Task] = []

    # -- what tasks call -----------------------------------------------------------------------------------------------

    def park(self, timeout_s: float | None = None) -> bool:
        """Stop until woken (True) or until the time is over (False)."""
        if self.over:
            raise Gone
        task = greenlet.getcurrent()
        assert isinstance(task, Task), "only tasks wait"
        task.token += 1
        task.parked, task.woken = True, False
        if timeout_s is not None:
            # The rest of a wait may be too short to change a float: time would stand still for whoever waits for it.
            self._push(self.now + (max(timeout_s, TICK_S) if timeout_s > 0 else 0.0), task, task.token)
        self._hub.switch()
        if self.over:
            raise Gone
        if task.interrupt is not None:
            interrupt, task.interrupt = task.interrupt, None
            raise interrupt
        return task.woken

    def wake(self, task: Task) -> None:
        if task.parked:
            task.parked, task.woken = False, True
            self._ready.append(task)

    def spawn(self, process: Process, name: str, run: Callable[[], None]) -> Task:
        if self.over:
            raise Gone

        def body() -> None:
            try:
                run()
            except (Gone, greenlet.GreenletExit):
                pass
            except BaseException as failure:  # noqa: BLE001 - shown as a finding of the run
                if not self.over:
                    self.failures.append((task, failure))
            task.finished = True

        task = Task(body, process, name, self._hub)
        self._tasks.append(task)
        self._ready.append(task)
        return task

    def at(self, delay_s: float, run: Callable[[], None]) -> None:
        """Call `run` later, in no process; it must not wait."""
        self._push(self.now + delay_s, run, -1)

    @staticmethod
    def process() -> Process | None:
        """Whose code runs."""
        task = greenlet.getcurrent()
        return task.process if isinstance(task, Task) else None

    def die(self) -> None:
        """The current task's process is dead: never come back."""
        self._hub.switch()
        raise Gone

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Let time pass until the condition holds (True) or the limit is reached."""
        end = self.now + limit_s
        while not until():
            if not self._ready:
                if not self._timers or self._timers[0][0] > end:
                    self.now = end
                    return until()
                self._fire()
                continue
            self._resume(self._draw())
        return True

    def close(self) -> None:
        """End what is left: now the `finally`s run, into a world that answers nothing."""
        self.over = True
        for task in self._tasks:
            while task and not task.dead:
                task.throw(Gone)
        self._tasks.clear()
        self._timers.clear()
        self._ready.clear()

    def _draw(self) -> Task:
        ready = self._ready
        at = int(self.chance.random() * len(ready)) if len(ready) > 1 else 0
        task, ready[at] = ready[at], ready[-1]
        ready.pop()
        return task

    def _resume(self, task: Task) -> None:
        process = task.process
        if not process.alive:
            return
        if process.frozen_until > self.now:
            self._push(process.frozen_until, lambda: self._ready.append(task), -1)
            return
        if process.busy and process.now() > process.trusted_until:
            self.on_guard(process)
            return
        self.steps += 1
        task.switch()

    def _fire(self) -> None:
        self.now, _, what, token = heapq.heappop(self._timers)
        if token < 0:
            try:
                what()
            except Exception as failure:  # noqa: BLE001 - shown as a finding of the run
                self.failures.append((None, failure))
        elif what.parked and what.token == token:
            what.parked = False
            self._ready.append(what)

    def _push(self, when: float, what: Any, token: int) -> None:
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, what, token))
