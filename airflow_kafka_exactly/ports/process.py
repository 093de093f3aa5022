"""This process: its clock, and what ends it in time."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Seconds that go on while the machine sleeps (CLOCK_BOOTTIME); its zero means nothing."""

    def now(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class EffectGuard(Protocol):
    """Ends this process when the trust window ends during an effect, from outside of the interpreter's lock (S1, c)."""

    def trusted_until(self, ends_at: float) -> None:
        """The trust window's end, in the clock's seconds; moved by each renewal of the lease."""
        ...

    def begin(self) -> None:
        """Effects may be under way from now on."""
        ...

    def end(self) -> None: ...
    def close(self) -> None: ...
