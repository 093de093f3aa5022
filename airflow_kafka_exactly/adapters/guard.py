"""A sibling process that ends this one when the trust window ends during an effect (S1, condition c).

It lives outside of the interpreter's lock, so that a function that never comes back to Python, a frozen process, or a machine
that slept cannot let an effect begin or go on after the lease: a page of shared memory holds the window's end and whether
effects are under way, and the sibling looks at it 20 times a second by CLOCK_BOOTTIME.
"""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import sys
import time

PAGE = struct.Struct("=d?")
"""End of the trust window in seconds of CLOCK_BOOTTIME; whether effects are under way."""
LOOK_EVERY_S = 0.05


class BootClock:
    """`Clock` that goes on while the machine sleeps."""

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class ProcessGuard:
    """`EffectGuard` for a worker. Start it in the process that runs the effects; `close` ends the sibling."""

    def __init__(self) -> None:
        descriptor = os.memfd_create("kafka-exactly-guard")
        os.ftruncate(descriptor, mmap.PAGESIZE)
        self._page = mmap.mmap(descriptor, mmap.PAGESIZE)
        self._ends_at = float("-inf")
        self._write()
        guarded = os.pidfd_open(os.getpid())
        try:
            self._sibling = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(descriptor), str(guarded)],
                pass_fds=(descriptor, guarded),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
            os.close(guarded)

    def trusted_until(self, ends_at: float) -> None:
        self._ends_at = ends_at
        self._write()

    def begin(self) -> None:
        self._page[8] = 1

    def end(self) -> None:
        self._page[8] = 0

    def close(self) -> None:
        if self._sibling.poll() is None:
            self._sibling.terminate()
            self._sibling.wait(5)

    def _write(self) -> None:
        self._page[:8] = struct.pack("=d", self._ends_at)


class NoGuard:
    """For a member that runs no effects (a waiting one), or whose effects are in the ledger's transaction."""

    def trusted_until(self, ends_at: float) -> None:
        """Nothing is guarded."""

    def begin(self) -> None:
        """Nothing is guarded."""

    def end(self) -> None:
        """Nothing is guarded."""

    def close(self) -> None:
        """Nothing is guarded."""


def watch(page_descriptor: int, guarded: int) -> None:
    """The sibling's loop: until the guarded process is gone, or has to go."""
    import select
    import signal

    page = mmap.mmap(page_descriptor, mmap.PAGESIZE, prot=mmap.PROT_READ)
    gone = select.poll()
    gone.register(guarded, select.POLLIN)
    while not gone.poll(LOOK_EVERY_S * 1000):
        ends_at, busy = PAGE.unpack(page[: PAGE.size])
        late_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ends_at
        if busy and late_s > 0:
            print(
                f"kafka-exactly: the trust window ended {late_s:.1f} s ago during an effect: ending the worker (S1)",
                file=sys.stderr,
                flush=True,
            )
            signal.pidfd_send_signal(guarded, signal.SIGKILL)
            return


if __name__ == "__main__":
    watch(int(sys.argv[1]), int(sys.argv[2]))
