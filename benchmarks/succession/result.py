"""What all changes of leaders add up to, and which bound they break."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from succession.faults import Change

ELECTION_S = 2.0
"""What may pass between the end of the lost leader's session and the next accepted vote."""
RESIGN_S = 1.0
"""For one that says so when it goes."""
SHARE = 0.95
"""Of the changes must keep within the times; what is accepted or called fresh has no exceptions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    changes: Sequence[Change]
    session_timeout_s: float
    known_ids: int
    known_fresh: int
    """Of all known ids, called fresh by a leader that followed nobody before."""

    @property
    def lost(self) -> list[float]:
        """Seconds of the changes in which a leader was killed or frozen."""
        return [c.seconds for c in self.changes if c.fault != "resign"]

    @property
    def resigned(self) -> list[float]:
        return [c.seconds for c in self.changes if c.fault == "resign"]

    @property
    def stale_votes_accepted(self) -> int:
        return sum(c.late_accepted for c in self.changes)

    @property
    def fresh(self) -> int:
        """Known ids that any new leader called fresh."""
        return sum(c.fresh for c in self.changes) + self.known_fresh

    def broken(self) -> list[str]:
        """The bounds that do not hold, in words."""
        limit = self.session_timeout_s + ELECTION_S
        lost, resigned = percentile(self.lost, SHARE), percentile(self.resigned, SHARE)
        bounds = [
            (lost <= limit, f"p95 of a lost leader is {lost:.2f} s, more than {limit:.1f} s"),
            (resigned <= RESIGN_S, f"p95 of a resignation is {resigned:.2f} s, more than {RESIGN_S:.1f} s"),
            (
                self.stale_votes_accepted == 0,
                f"{self.stale_votes_accepted} votes of an old epoch were accepted (S4)",
            ),
            (self.fresh == 0, f"{self.fresh} known ids were called fresh (S6)"),
        ]
        return [words for holds, words in bounds if not holds]

    def lines(self) -> list[str]:
        """For people; the last one for programs."""
        faults = dict.fromkeys(c.fault for c in self.changes)
        return [
            *(_summary(fault, [c.seconds for c in self.changes if c.fault == fault]) for fault in faults),
            self._late(),
            self._known(),
            self._last(),
        ]

    def _late(self) -> str:
        asked, answered = sum(c.late_asked for c in self.changes), sum(c.late_answered for c in self.changes)
        return (
            f"late ballots to woken leaders: {asked} asked, {answered} answered, "
            f"{self.stale_votes_accepted} accepted"
        )

    def _known(self) -> str:
        return (
            f"known ids: {sum(c.sampled for c in self.changes)} in first votes, "
            f"{sum(c.fresh for c in self.changes)} fresh; all {self.known_ids} asked of a leader that followed nobody, "
            f"{self.known_fresh} fresh"
        )

    def _last(self) -> str:
        lost = self.lost
        return (
            f"failover: runs={len(lost)} p50_s={median(lost):.2f} p95_s={percentile(lost, SHARE):.2f} "
            f"max_s={max(lost):.2f} stale_votes_accepted={self.stale_votes_accepted}"
        )


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank: a value that was really measured."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def _summary(fault: str, seconds: Sequence[float]) -> str:
    return (
        f"{fault:7} {len(seconds):3} times: p50 {median(seconds):.2f} s, p95 {percentile(seconds, SHARE):.2f} s, "
        f"{min(seconds):.2f} to {max(seconds):.2f} s"
    )
