"""What was put aside of a claim: records that were tried in vain, and those after them that were applied since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_kafka_exactly.protocol.breaker import History
from airflow_kafka_exactly.protocol.claims import Failing
from airflow_kafka_exactly.protocol.record import Record


@dataclass(slots=True, eq=False)
class Case:
    """Records that are one effect, where the next one starts, and how their tries went."""

    records: Sequence[Record]
    stop: int
    history: History
    tried: bool = False
    """By the claim that has it now."""
    reason: str = ""
    applied: bool = False
    unknown: bool = False

    @property
    def end(self) -> int:
        """Of its records, without the gap that may follow them."""
        return self.records[-1].offset + 1

    @property
    def failing(self) -> bool:
        """Tried in vain, and provably without an effect."""
        return bool(self.history.attempts) and not (self.applied or self.unknown)

    def told(self, now: float) -> Failing:
        history = self.history
        return Failing(self.records[0].offset, self.end, history.all_attempts, now - history.since)


@dataclass(slots=True)
class Aside:
    cases: list[Case] = field(default_factory=list)
    """In offset order."""

    @property
    def waiting(self) -> list[Case]:
        return [case for case in self.cases if not case.applied]

    @property
    def applied(self) -> list[Case]:
        return [case for case in self.cases if case.applied]

    def failing(self, trying: Case | None, now: float) -> list[Failing]:
        """What is to be told of these, and of the one in hand."""
        of = self.cases if trying is None or trying in self.cases else [*self.cases, trying]
        return [case.told(now) for case in of if case.failing]
