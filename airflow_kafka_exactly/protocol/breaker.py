"""Whose fault a failure is: a record's, which may become a dead letter, or the target's, which must not cost any record.

One record that fails among others that succeed is poison. When different records fail in a row and none succeeds, it is the
target that is away, and whoever goes on burns the backlog. So a record that has used up its attempts is given up only when

    the breaker is closed    and another record has succeeded since, with no further one failing
    the breaker is open      and its own attempts span `grace_s`: then a person has had time to notice

The breaker opens when `OPENS_AT` different records failed in a row, or all there are to try, and closes with the first
success. While it is open, tries come one by one, at growing intervals. All failures here are proven to have had no effect,
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
    convicted: bool = False
    """It failed alone, and the next record succeeded at once."""


@dataclass(slots=True)
class Breaker:
    patience: Patience
    open: bool = False
    next_at: float = float("-inf")
    """Nothing is tried before."""
    _row: dict[Hashable, History] = field(default_factory=dict)
    """Different records that failed since the last success."""
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
        self._last = history.key
        patience, at_most_s = self.patience, DOUBT_DELAY_AT_MOST_S if unknown else DELAY_AT_MOST_S
        if self.open:
            self._probes += 1
            failures = patience.max_attempts + self._probes
        elif unknown:
            failures = len(self._row)
        elif history.attempts < patience.max_attempts:
            failures = history.attempts
        else:
            failures = 0  # used up: the next record is tried at once, to see whose fault it is
        self.next_at = now + patience.delay(failures, chance, at_most_s) if failures else now
        if len(self._row) >= OPENS_AT:
            self.open = True

    def nothing_else(self, now: float, chance: float) -> None:
        """All there is to try has failed, though it is fewer than `OPENS_AT`."""
        if not self.open:
            self.open = True
            self.next_at = now + self.patience.delay(self.patience.max_attempts, chance)

    def again(self, history: History) -> bool:
        """Whether the record is tried again before any other one."""
        return not self.open and history.attempts < self.patience.max_attempts

    def blames(self, history: History, *, alone: bool) -> bool:
        """Whether the failures are this record's own. `alone`: there is no other one that could be tried."""
        if history.attempts < self.patience.max_attempts:
            return False
        if self.open:  # at most one for each probe: the one that was just tried
            return self._last == history.key and history.tried_at - history.first_at >= self.patience.grace_s
        if history.convicted:
            return True
        if self._row.keys() != {history.key}:
            return False
        since = history.first_at - (SUCCESS_COUNTS_FOR_S if alone else 0.0)
        return self._succeeded_at > since

    def suspects(self, key: Hashable) -> bool:
        """Whether it has failed since the last success."""
        return key in self._row

    @property
    def quiet(self) -> bool:
        """The last try succeeded."""
        return not self._row
