"""The trust window: how long a life may start records without hearing from the ledger (S1, condition c).

The ledger counts a lease from its answer, the life counts from when it *asked*, and a margin earlier it stops by itself:
whatever the network did to question or answer, the life stops before the ledger may fence it. The idea is River's
(`internal/leadership`), the clock has to be one that goes on while the machine sleeps.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class TrustWindow:
    """`trust_s` seconds from the last *asking* that was answered. Times are seconds of one `Clock`."""

    trust_s: float
    ends_at: float = float("-inf")

    def renewed(self, asked_at: float) -> None:
        """An answer came to the question asked at `asked_at`; answers may come out of order."""
        self.ends_at = max(self.ends_at, asked_at + self.trust_s)

    def open(self, now: float) -> bool:
        return now < self.ends_at

    def close(self) -> None:
        """The ledger said that this life is over."""
        self.ends_at = float("-inf")
        self.trust_s = float("-inf")
