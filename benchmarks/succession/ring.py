"""The contenders of one election, each a process that can be killed, frozen, woken and replaced."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from localstack import Service

from succession.plan import Plan

T = TypeVar("T")
_POLL_S = 0.02
_WAIT_S = 60.0


def eventually(what: str, condition: Callable[[], T | None], deadline_s: float = _WAIT_S) -> T:
    """The condition's first true answer; says what it waited for when there is none in time."""
    until = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise SystemExit(f"after {deadline_s:.0f} s still not: {what}")
        time.sleep(_POLL_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a contender last said of itself. One that is frozen or dead still "says" what it said last."""

    address: str = ""
    leads: bool = False
    epoch: int = 0
    follows: bool = False


class Contender(Service):
    def __init__(self, state: Path, name: str, plan: Plan) -> None:
        super().__init__(name, state)
        self._plan = plan

    @property
    def address(self) -> str:
        """Where it serves votes."""
        return self.seen().address

    def prepare(self) -> None:
        self._plan.write(self.folder / "plan.json")

    def command(self) -> list[str]:
        return [sys.executable, "-m", "succession.contender", str(self.folder)]

    def environment(self) -> dict[str, str]:
        here = Path(__file__).resolve().parent.parent
        given = os.environ.get("PYTHONPATH", "")
        return {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent), *filter(None, [given])])}

    def ready(self) -> bool:
        return bool(self.address)

    def seen(self) -> Seen:
        with contextlib.suppress(FileNotFoundError):
            return Seen(**json.loads((self.folder / "state.json").read_text()))
        return Seen()

    def resign(self) -> None:
        """Ask it to end, and do not wait."""
        os.kill(self.pid, signal.SIGTERM)


class Ring:
    def __init__(self, folder: Path, plan: Plan, size: int) -> None:
        self._folder, self._plan = folder, plan
        self._numbers = itertools.count(1)
        self.contenders = [self.added() for _ in range(size)]

    def added(self) -> Contender:
        return Contender(self._folder, f"contender-{next(self._numbers)}", self._plan)

    def start(self) -> None:
        for contender in self.contenders:
            contender.launch()
        self.settle()

    def settle(self) -> Contender:
        """Wait until one leads and all others follow it; returns the leader."""

        def settled() -> Contender | None:
            leaders = [c for c in self.contenders if c.seen().leads]
            follow = all(c.seen().follows for c in self.contenders if c not in leaders)
            return leaders[0] if len(leaders) == 1 and follow else None

        return eventually("one contender leads and all others follow", settled)

    def replace(self, gone: Contender) -> None:
        """A new process for one that was killed or has resigned."""
        gone.stop()
        self.contenders.remove(gone)
        self.contenders.append(self.added())
        self.contenders[-1].launch()

    def stop(self) -> None:
        for contender in self.contenders:
            contender.kill()


@contextlib.contextmanager
def ring(folder: Path, plan: Plan, size: int = 3) -> Iterator[Ring]:
    """Started and settled."""
    made = Ring(folder, plan, size)
    try:
        made.start()
        yield made
    finally:
        made.stop()
