"""A sibling process that ends this one when the trust window ends during an effect (S1, condition c).

It lives outside of the interpreter's lock, so that a function that never comes back to Python, a frozen process, or a machine
that slept cannot let an effect begin or go on after the lease: a page of shared memory holds the window's end and whether
effects are under way, and the sibling looks at it 20 times a second by CLOCK_BOOTTIME.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

from airflow_kafka_exactly.errors import Unavailable

log = logging.getLogger(__name__)
PROGRAM = Path(__file__).with_name("watch.py")
BUSY_AT = 8
"""In the page, after the end of the trust window (a double)."""


class BootClock:
    """`Clock` that goes on while the machine sleeps."""

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class ProcessGuard:
    """`EffectGuard` for a worker. Start it in the process that runs the effects; `close` ends the sibling."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("kafka-exactly-guard")
        os.ftruncate(self._descriptor, mmap.PAGESIZE)
        self._page = mmap.mmap(self._descriptor, mmap.PAGESIZE)
        self.trusted_until(float("-inf"))
        self._sibling = self._start()

    def trusted_until(self, ends_at: float) -> None:
        self._page[:BUSY_AT] = struct.pack("=d", ends_at)

    def begin(self) -> None:
        """A sibling that is gone (the kernel was out of memory, somebody killed it) is replaced: no effect begins unwatched."""
        self._page[BUSY_AT] = 1
        if self._sibling.poll() is not None:
            log.error("the guard of this process has ended (%s): starting another", self._sibling.returncode)
            self._sibling = self._start()

    def end(self) -> None:
        self._page[BUSY_AT] = 0

    def close(self) -> None:
        if self._sibling.poll() is None:
            self._sibling.terminate()
            self._sibling.wait(5)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _start(self) -> subprocess.Popen[bytes]:
        """In a session of its own: what ends this process's group (a terminal, Airflow's supervisor) leaves the sibling to see it
        through, and the sibling can end the group without ending itself."""
        guarded = os.pidfd_open(os.getpid())
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", PROGRAM, str(self._descriptor), str(guarded), str(os.getpid())],
                pass_fds=(self._descriptor, guarded),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as failure:
            self.end()
            raise Unavailable(
                "the guard process", "a process of its own beside each worker", failure
            ) from failure
        finally:
            os.close(guarded)


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
