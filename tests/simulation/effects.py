"""The world outside: effects in an append-only log, and the user's function and check over it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from simulation.kernel import Kernel, Process
from simulation.patience import Patience
from simulation.plan import Kind, Plan
from simulation.points import Points

from airflow_kafka_exactly.errors import NotApplied
from airflow_kafka_exactly.protocol.record import FencingToken, Partition, Record
from airflow_kafka_exactly.runtime.function import UserFunction

Key = tuple[str, int, int]
"""Topic id, partition, offset."""


@dataclass(frozen=True, slots=True)
class Effect:
    key: Key
    process: str
    at: float


class Target:
    """What happened, in the order in which it did."""

    def __init__(self, kernel: Kernel, trace: Callable[[str, str], None]) -> None:
        self.trace = trace
        self.log: list[Effect] = []
        self.count: Counter[Key] = Counter()
        self.flying: Counter[Key] = Counter()
        self.unique: set[Key] = set()
        """What it takes only once: records that the policy "redo" runs again, whatever was done (condition b of S1)."""
        self._kernel = kernel
        self.on_send: Callable[[Process, Key, FencingToken], None] = lambda *_: None
        self.on_effect: Callable[[Effect], None] = lambda _: None

    def happen(self, keys: Sequence[Key], process: Process) -> None:
        for key in keys:
            if key in self.unique and self.count[key]:
                self.trace(process.name, f"the target refuses a second effect of {key[0]}[{key[1]}] {key[2]}")
                continue
            effect = Effect(key, process.name, self._kernel.now)
            self.log.append(effect)
            self.count[key] += 1
            self.trace(process.name, f"effect of {key[0]}[{key[1]}] {key[2]}")
            self.on_effect(effect)

    def happened(self, key: Key) -> bool:
        return self.count[key] > 0


class Killed(BaseException):
    """Ends the task out of the user's function: what Airflow raises when `execution_timeout` has passed is no `Exception`."""


class Functions:
    """The user's function, for the processes of one plan."""

    def __init__(self, plan: Plan, target: Target, points: Points) -> None:
        self._plan, self.target, self._points, self._kernel = plan, target, points, points.kernel
        self.healed = False
        self.failed: dict[tuple[str, Key], list[str]] = defaultdict(list)
        """How the calls for each record failed, by process."""
        self.patience = Patience(plan)

    def key(self, record: Record) -> Key:
        """From the record's id, `cluster/topic id/partition/offset/replay`."""
        _, topic_id, number, offset, _ = record.record_id.rsplit("/", 4)
        return topic_id, int(number), int(offset)

    def for_process(self, process: Process) -> UserFunction:
        kind = self._plan.kind
        self.patience.opened(process)
        if kind is Kind.LEDGER:
            return UserFunction(apply=lambda r, cursor: self._in_ledger(process, r, cursor), in_ledger=True)
        unit = kind is Kind.UNIT
        check: Callable[..., bool | None] | None = self.check
        if kind is Kind.UNCHECKED:
            check = None
        elif kind is Kind.UNSURE:
            check = self.cannot_tell
        return UserFunction(
            apply=lambda given: self._external(process, given),
            unit=unit,
            check=check,
            vouches=self._plan.choices.vouches,
        )

    def check(self, given: Record | Sequence[Record]) -> bool:
        """Truthful; what is still on its way it does not see (`effect_timeout`)."""
        records = given if isinstance(given, list) else [given]
        return any(self.target.happened(self.key(r)) for r in records)

    @staticmethod
    def cannot_tell(_: object) -> None:
        return None

    def _external(self, process: Process, given: Record | list[Record]) -> None:
        records = given if isinstance(given, list) else [given]
        mood = self._begins(process, records)
        self._work(process)
        if mood in ("proves", "raises before", "killed before"):
            self._fail(process, records, mood)
        if self._send(process, records):
            self._fail(process, records, "raises under way")
        self._work(process)
        if mood != "well":
            self._fail(process, records, mood)
        self.patience.succeeded(process, self._which(records)[1])

    def _which(self, records: Sequence[Record]) -> tuple[int, list[Key]]:
        return records[0].fencing_token.claim_id, [self.key(record) for record in records]

    def _begins(self, process: Process, records: Sequence[Record]) -> str:
        """And how it will go."""
        try:
            self.patience.begins(process, *self._which(records))
        except Exception:
            self._kernel.park(0.0)  # whoever tries again at once would keep the run from ending with this
            raise
        return self._mood()

    def _fail(self, process: Process, records: Sequence[Record], mood: str) -> None:
        for record in records:
            self.failed[process.name, self.key(record)].append(mood)
        harmless = self._plan.kind is Kind.LEDGER or mood in ("proves", "raises before")
        (self.patience.failed if harmless else self.patience.succeeded)(process, self._which(records)[1])
        if mood == "proves":
            raise NotApplied("the target refused it")
        if mood.startswith("killed"):
            raise Killed(mood)
        raise RuntimeError(mood)

    def _in_ledger(self, process: Process, record: Record, cursor: Any) -> None:
        mood = self._begins(process, [record])
        self._work(process)
        cursor.execute("effect", (self.key(record), record.fencing_token))
        if mood != "well":
            self._fail(process, [record], mood)
        self.patience.succeeded(process, self._which([record])[1])

    def _mood(self) -> str:
        if self.healed:
            return "well"
        u, plan = self._kernel.chance.random(), self._plan
        if 0 <= self._kernel.now - plan.choices.outage_at_s < plan.choices.outage_s:
            return "proves" if plan.choices.outage_proves else "raises before"
        if u < plan.proves:
            return "proves"
        if u < plan.proves + plan.raises:
            moods = ("raises before",) if plan.choices.vouches else ("raises before", "raises after")
            return self._kernel.chance.choice(moods)
        if u < plan.proves + plan.raises + plan.choices.killed:
            return self._kernel.chance.choice(("killed before", "killed after"))
        return "well"

    def _work(self, process: Process) -> None:
        """Also a place to stop at."""
        self._points.pause(process, "function")
        process.sleep(self._plan.effect_s * self._kernel.chance.random())

    def _send(self, process: Process, records: Sequence[Record]) -> bool:
        """From here on nothing that becomes of the process keeps the effect from happening. A batch's effect is one. Whether
        the caller gave up while it was under way."""
        target, kernel = self.target, self._kernel
        keys = [self.key(record) for record in records]
        for key, record in zip(keys, records, strict=True):
            target.on_send(process, key, record.fencing_token)
        if kernel.chance.random() >= self._plan.in_flight:
            target.happen(keys, process)
            return False
        delay = kernel.chance.uniform(0.0, self._plan.flight_s)
        target.flying.update(keys)

        def arrive() -> None:
            target.flying.subtract(keys)
            target.happen(keys, process)

        kernel.at(delay, arrive)
        if not self.healed and kernel.chance.random() < self._plan.choices.impatient:
            kernel.park(delay * kernel.chance.random())
            return True
        kernel.park(delay + 0.001)
        return False


def key_of(partition: Partition, offset: int) -> Key:
    return partition.topic_id, partition.number, offset
