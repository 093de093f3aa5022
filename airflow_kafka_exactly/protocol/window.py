"""How many records are marked started ahead of the function: about `window_s` seconds of work.

The window is what a crash leaves uncertain, so it must be small; each window costs one round trip to the ledger, so it must
not be too small. The rate is measured, and a window may grow at most fourfold from one to the next, so that a burst of cheap
records is not followed by thousands of expensive ones that nobody can tell apart after a crash.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_WINDOW_RECORDS = 10_000


@dataclass(slots=True)
class WindowSize:
    window_s: float
    records: int = 1

    def measured(self, records: int, seconds: float) -> None:
        """The last window's `records` took `seconds`."""
        if records < 1:
            return
        fitting = int(records * self.window_s / max(seconds, 1e-6))
        self.records = max(1, min(fitting, self.records * 4, MAX_WINDOW_RECORDS))
