"""What the calls of each member say about whose fault a failure is, seen from outside: a target that is away must not cost a
record, nor be asked without a pause.

A record becomes a dead letter only when another one has succeeded since its first try; or its tries span the grace, whoever had
it before, and it was the last one that was tried; or it is the only one that failed, has nothing behind it in its claim, and a
success was not long ago. One that failed is tried again after pauses that double while nothing succeeds, and after those that
wait longer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from simulation.kernel import Process
from simulation.plan import Kind, Plan

from airflow_kafka_exactly.protocol.breaker import DELAY_AT_MOST_S, SUCCESS_COUNTS_FOR_S

RETRY_DELAY_S = 0.2
Key = tuple[str, int, int]


@dataclass(slots=True)
class Tries:
    """Of one record, or of a batch's records, by one member: what is given back for a while is claimed again."""

    keys: Sequence[Key]
    claim_id: int
    """The last one."""
    from_s: float
    """The end of the call before the first one: no product's clock of these tries began earlier."""
    began_s: float
    first: int
    """Which of its member's calls the first one was: calls may take no time."""
    count: int = 0
    in_vain: int = 0
    """Since the last success of anything."""
    last: int = 0


@dataclass(slots=True)
class Seen:
    """Of one member."""

    ended_s: float
    succeeded_s: float = float("-inf")
    succeeded: int = 0
    """Which call did so last."""
    calls: int = 0
    failed: set[Key] = field(default_factory=set)
    """Since the last success."""
    waiting: dict[Key, Tries] = field(default_factory=dict)


class Patience:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._of: dict[str, Seen] = defaultdict(lambda: Seen(0.0))
        self._since: dict[Key, float] = {}
        """When anybody's tries began of a record that has failed, and provably had no effect: in the world's time, because the
        clocks of those who have it one after the other run at different rates."""
        self.violate: Callable[[str], None] = lambda _: None

    def opened(self, process: Process) -> None:
        self._of[process.name] = Seen(process.now())

    def begins(self, process: Process, claim_id: int, keys: Sequence[Key]) -> None:
        seen, now = self._of[process.name], process.now()
        seen.calls += 1
        tries = seen.waiting.get(keys[0])
        if tries is None:
            tries = seen.waiting[keys[0]] = Tries(keys, claim_id, seen.ended_s, now, seen.calls)
        elif (
            tries.in_vain and self._plan.kind is not Kind.LEDGER
        ):  # there the ledger may ask for the same try again
            self._again(process, claim_id, tries, now - seen.ended_s)
        tries.last, tries.claim_id = seen.calls, claim_id

    def _again(self, process: Process, claim_id: int, tries: Tries, pause_s: float) -> None:
        waiting = self._of[process.name].waiting
        least_s = min(RETRY_DELAY_S * 2.0 ** (tries.in_vain - 1), DELAY_AT_MOST_S) / 2
        if pause_s < least_s - 1e-6:
            self.violate(
                f"patience: {process} tries {tries.keys[0]} again after {pause_s:.2f} s; it failed {tries.in_vain} times in a row"
            )
        # Of this claim, or of the one before that was given back with this record.
        together = (claim_id, tries.claim_id)
        others = [t for t in waiting.values() if t.claim_id in together and t.last < tries.last]
        if others and tries.count >= self._plan.choices.max_attempts:
            self.violate(f"patience: {process} tries {tries.keys[0]} again before {others[0].keys[0]}")

    def failed(self, process: Process, keys: Sequence[Key]) -> None:
        """And provably had no effect, or is a doubt."""
        seen = self._of[process.name]
        tries = seen.waiting[keys[0]]
        began_s = tries.from_s / process.rate
        self._since[keys[0]] = min(began_s, self._since.get(keys[0], began_s))
        tries.count, tries.in_vain = tries.count + 1, tries.in_vain + 1
        seen.failed.add(keys[0])
        seen.ended_s = process.now()

    def succeeded(self, process: Process, keys: Sequence[Key]) -> None:
        """Or a check may find that it did."""
        seen = self._of[process.name]
        seen.waiting.pop(keys[0], None)
        seen.failed.clear()
        for tries in seen.waiting.values():
            tries.in_vain = 0
        seen.ended_s = seen.succeeded_s = process.now()
        seen.succeeded = seen.calls

    def cut(self, process: Process, keys: Iterable[Key]) -> None:
        """These were made dead letters or doubts: nobody waits for them any more."""
        gone, waiting = set(keys), self._of[process.name].waiting
        for which in [which for which, tries in waiting.items() if gone & set(tries.keys)]:
            del waiting[which]

    def buried(self, process: Process, key: Key, *, more: bool) -> None:
        """`more`: its claim holds records behind it."""
        seen, now = self._of[process.name], process.now()
        tries = max((t for t in seen.waiting.values() if key in t.keys), key=lambda t: t.last, default=None)
        if tries is None or seen.succeeded > tries.first:
            return
        world_s = process.kernel.now
        span_s = (world_s - self._since.get(tries.keys[0], world_s)) * (1 + self._plan.skew)
        if span_s >= self._plan.choices.outage_grace_s - 1e-6 and tries.last == seen.calls:
            return
        ordered = self._plan.kind in (Kind.UNIT, Kind.LEDGER)
        alone = seen.failed == {tries.keys[0]} and (ordered or not more)
        if not alone or seen.succeeded_s < tries.from_s - SUCCESS_COUNTS_FOR_S:
            self.violate(
                f"patience: {process} buried {key}, tried for {now - tries.began_s:.1f} s, while everything failed"
            )
