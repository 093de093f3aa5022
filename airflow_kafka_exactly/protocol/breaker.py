"""Whose fault a failure is: a record's, which may become a dead letter, or the target's, which must not cost any record.

One record that fails among others that succeed is poison. When different records fail in a row and none succeeds, it is the
target that is away, and whoever goes on burns the backlog. So a record that has used up its attempts is given up only when

    the breaker is closed    and another record has succeeded since, with no further one failing
    or whatever it is        its own attempts span `grace_s`: then a person has had time to notice

The breaker opens when `OPENS_AT` different records failed in a row, or all there are to try, and closes with the first
success. While it is open, tries come one by one, at growing intervals. Only what has not failed yet is tried at once, before
`OPENS_AT` have: it may come from another partition, whose records succeed. All failures here are proven to have had no effect,
except those counted with `unknown`: these are doubts already, and only slow down what begins next.

Time and chance are arguments. A record is known by any key that is the same at each of its tries.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

OPENS_AT = 20
DELAY_AT_MOST_S = 60.0
DOUBT_DELAY_AT_MOST_S = 300.0
"""Each try that may leave a doubt costs somebody a look: they come less often."""
PROBE_DELAY_AT_LEAST_S = 1.0
"""While everything fails, however short `delay_s` is."""
SUCCESS_COUNTS_FOR_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """`delay_s` doubles from try to try. `grace_s`: so long everything may fail before a record pays for it."""

    max_attempts: int
    delay_s: float
    grace_s: float

    def delay(self, failures: int, chance: float, at_most_s: float = DELAY_AT_MOST_S) -> float:
        """Seconds after the `failures`th failure in a row; `chance` in [0, 1) spreads those of several members."""
        return min(self.delay_s * 2.0 ** min(failures - 1, 60), at_most_s) * (0.5 + chance / 2)


@dataclass(slots=True, kw_only=True)
class History:
    """Of one record's tries."""

    key: Hashable
    first_at: float
    tried_at: float
    attempts: int = 0
    failing_since: float = float("inf")
    """Before this member, or its present claim, tried it: what the ledger has kept, and how many attempts."""
    attempts_before: int = 0
    told: bool = False
    """The ledger was asked."""
    unknown: bool = False
    """Its last try proves nothing. A doubt is decided by others: whoever redoes it begins anew."""
    convicted: bool = False
    """It failed alone, and the next record succeeded at once."""

    @property
    def all_attempts(self) -> int:
        return self.attempts_before + self.attempts

    @property
    def since(self) -> float:
        return min(self.first_at, self.failing_since)


@dataclass(slots=True)
class Breaker:
    patience: Patience
    open: bool = False
    next_at: float = float("-inf")
    """Nothing that has failed is tried before."""
    _row: dict[Hashable, History] = field(default_factory=dict)
    """Different records that failed since the last success."""
    _unknown: bool = False
    """The last failure proves nothing: whatever is tried next may be a doubt too."""
    _probes: int = 0
    _last: Hashable = None
    _succeeded_at: float = float("-inf")

    def succeeded(self, history: History, now: float) -> None:
        if not self.open and len(self._row) == 1 and history.attempts == 1:
            for other in self._row.values():
                other.convicted = True
        self._row.clear()
        self.open, self._probes, self._last = False, 0, history.key
        self._succeeded_at, self.next_at = now, float("-inf")

    def failed(self, history: History, now: float, chance: float, *, unknown: bool = False) -> None:
        self._row[history.key] = history
        self._last, self._unknown, history.unknown = history.key, unknown, unknown
        self.open = self.open or len(self._row) >= OPENS_AT
        patience, at_most_s = self.patience, DOUBT_DELAY_AT_MOST_S if unknown else DELAY_AT_MOST_S
        if self.open:
            self._probes += 1
            failures = max(patience.max_attempts + self._probes, len(self._row) if unknown else 0)
        elif unknown:
            failures = len(self._row)
        elif history.attempts < patience.max_attempts:
            failures = history.attempts
        else:
            failures = 0  # used up: the next record is tried at once, to see whose fault it is
        delay_s = patience.delay(failures, chance, at_most_s) if failures else 0.0
        delay_s = max(delay_s, PROBE_DELAY_AT_LEAST_S) if self.open else delay_s
        self.next_at = max(self.next_at, now + delay_s)  # what failed before waits no less for it

    def nothing_else(self, now: float, chance: float) -> None:
        """All there is to try has failed, though it is fewer than `OPENS_AT`."""
        if not self.open:
            self.open = True
            delay_s = self.patience.delay(self.patience.max_attempts, chance)
            self.next_at = now + max(delay_s, PROBE_DELAY_AT_LEAST_S)

    def wait_until(self, key: Hashable) -> float:
        """When it may be tried."""
        fresh = key not in self._row and not self._unknown and len(self._row) < OPENS_AT
        return float("-inf") if fresh else self.next_at

    def again(self, history: History) -> bool:
        """Whether the record is tried again before any other one."""
        return (
            not self.open
            and history.attempts < self.patience.max_attempts
            and not self._outlasts_grace(history)
        )

    def _outlasts_grace(self, history: History) -> bool:
        """At most one for each try: the one that was just tried."""
        return (
            history.all_attempts >= self.patience.max_attempts
            and history.tried_at - history.since >= self.patience.grace_s
            and self._last == history.key
        )

    def blames(self, history: History, *, alone: bool) -> bool:
        """Whether the failures are this record's own. `alone`: there is no other one that could be tried."""
        if self._outlasts_grace(history):
            return True
        if self.open or history.attempts < self.patience.max_attempts:
            return False
        if history.convicted:
            return True
        if self._row.keys() != {history.key}:
            return False
        since = history.first_at - (SUCCESS_COUNTS_FOR_S if alone else 0.0)
        return self._succeeded_at > since

    def suspect(self, key: Hashable) -> History | None:
        """What is known of it, when it has failed since the last success and is to be tried again."""
        history = self._row.get(key)
        return None if history is None or history.unknown else history

    @property
    def quiet(self) -> bool:
        """The last try succeeded."""
        return not self._row
