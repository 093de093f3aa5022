"""What goes wrong at a call of a port: drawn from the seed, or written down by an enumeration."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto

from simulation.kernel import Process
from simulation.plan import Rates


class Fate(Enum):
    NONE = auto()
    LOST = auto()  # the request never arrives
    ANSWER_LOST = auto()  # it is executed, nobody hears of it
    LATE = auto()  # the caller has given up when it is executed
    REPEATED = auto()  # executed, and later once more
    SLOW = auto()  # question or answer take their time
    CRASH_BEFORE = auto()
    CRASH_AFTER = auto()
    FREEZE_BEFORE = auto()
    FREEZE_AFTER = auto()


@dataclass(slots=True)
class Script:
    """One fate, at the n-th call of the first process of a name; `calls` counts them."""

    name: str
    at: int
    fate: Fate
    calls: int = 0
    hit: str = ""
    process: Process | None = None


class Faults:
    def __init__(self, chance: random.Random, rates: Rates, script: Script | None = None) -> None:
        self.chance, self.rates, self.script = chance, rates, script
        self.healed = False
        self.cuts: set[frozenset[str]] = set()
        """Pairs of parties between which nothing passes."""
        self.counts: Counter[str] = Counter()

    def note(self, what: str) -> None:
        self.counts[what] += 1

    def fate(self, process: Process, what: str) -> Fate:
        script = self.script
        if script is not None and process is script.process:
            script.calls += 1
            if script.calls == script.at:
                script.hit = what
                self.note(script.fate.name.lower())
                return script.fate
        if self.healed or process.name == "world":
            return Fate.NONE
        u, rates = self.chance.random(), self.rates
        if rates.focus and rates.focus in what:
            u /= rates.focused
        if u >= rates.any:
            return Fate.NONE
        fate = self._drawn(u, rates)
        self.note(fate.name.lower())
        return fate

    def _drawn(self, u: float, rates: Rates) -> Fate:
        for rate, fates in (
            (rates.lost, (Fate.LOST,)),
            (rates.answer_lost, (Fate.ANSWER_LOST,)),
            (rates.late, (Fate.LATE, Fate.REPEATED)),
            (rates.slow, (Fate.SLOW,)),
            (rates.crash, (Fate.CRASH_BEFORE, Fate.CRASH_AFTER)),
            (rates.freeze, (Fate.FREEZE_BEFORE, Fate.FREEZE_AFTER)),
        ):
            if u < rate:
                return self.chance.choice(fates)
            u -= rate
        return Fate.NONE

    # -- links ---------------------------------------------------------------------------------------------------------

    def cut(self, one: str, other: str) -> None:
        self.cuts.add(frozenset((one, other)))

    def heal(self, one: str, other: str) -> None:
        self.cuts.discard(frozenset((one, other)))

    def connected(self, one: str, other: str) -> bool:
        return not self.cuts or frozenset((one, other)) not in self.cuts

    def heal_all(self) -> None:
        self.healed = True
        self.cuts.clear()
