"""What the demo says while it runs, and how it waits: for conditions, with a limit, and saying what is still pending."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")
_POLL_SECONDS = 0.2


class DemoError(RuntimeError):
    """The demo cannot go on; the message says what was waited for."""


class Progress:
    """One line per step with the seconds since the start, and how long each phase took."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.phases: dict[str, float] = {}

    @property
    def elapsed_seconds(self) -> float:
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        print(f"{self.elapsed_seconds:6.1f} s  {text}", flush=True)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        self.say(f"-- {name}")
        try:
            yield
        finally:
            self.phases[name] = time.monotonic() - began


def wait_for(
    what: str, found: Callable[[], T | None], seconds: float, pending: Callable[[], str] | None = None
) -> T:
    """Ask ``found`` until it answers something true; DemoError with what is ``pending`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := found():
            return answer
        if time.monotonic() > deadline:
            still = f" Still pending: {pending()}" if pending else ""
            raise DemoError(f"waited {seconds:.0f} s in vain for {what}.{still}")
        time.sleep(_POLL_SECONDS)
