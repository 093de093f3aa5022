"""When a leader may fence overdue lives: only after it has had the ledger to itself for a while.

A life that could not renew because the *ledger* was away is not dead. So a leader that has just (re)gained the ledger waits
`grace_s`, more than two renewals of every life, and any silence in between, the leader's own (a frozen process) included, starts
the wait again. The ledger's own clock still decides whether the lease is over: this only delays.
"""

from __future__ import annotations

MAX_SILENCE_S = 5.0
"""Between two answers of the ledger; far less than a lease, more than a slow tick."""


class FenceWatch:
    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._since: float | None = None
        self._last = 0.0

    def answered(self, now: float) -> None:
        """The ledger answered."""
        if self._since is None or now - self._last > MAX_SILENCE_S:
            self._since = (
                now  # first answer, or we were silent for so long that nobody knows what happened meanwhile
            )
        self._last = now

    def lost(self) -> None:
        self._since = None

    def may_fence(self, now: float) -> bool:
        return self._since is not None and now - self._since >= self._grace_s
