"""A sibling process that ends this one when the trust window ends during an effect (S1, condition c).

It lives outside of the interpreter's lock, so that a function that never comes back to Python, a frozen process, or a machine
that slept cannot let an effect begin or go on after the lease: a page of shared memory holds the window's end and whether
effects are under way, and the sibling looks at it 20 times a second by CLOCK_BOOTTIME. It writes down when: one that looks no
more is replaced before the next effect.
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
BUSY_AT, LOOKED_AT = 8, 16
"""In the page, after the end of the trust window (a double): whether effects are under way, and the sibling's last look."""
SILENT_S = 1.0
"""A sibling that has not looked for so long is stopped, or the machine was asleep or is busy: its next look is waited for."""
REPLACE_AFTER_S = 2.0
START_S = 10.0
END_S = 5.0


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
        """A sibling that is gone or stopped (the kernel was out of memory, somebody sent it a signal) is replaced: no effect
        begins unwatched."""
        if self._sibling.poll() is not None:
            self._replace(f"has ended ({self._sibling.returncode})")
        if self._silent_s() > SILENT_S and not self._looks_within(REPLACE_AFTER_S):
            self._replace(f"has not looked for {self._silent_s():.1f} s")
            if not self._looks_within(START_S):
                raise Unavailable(
                    "the guard process", "a process of its own beside each worker", "it does not run"
                )
        self._page[BUSY_AT] = 1

    def end(self) -> None:
        self._page[BUSY_AT] = 0

    def close(self) -> None:
        try:
            self._end()
        finally:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _end(self) -> None:
        """Killed, because one that is stopped would keep any other signal for later. It has nothing to clean up."""
        self._sibling.kill()
        try:
            self._sibling.wait(END_S)
        except subprocess.TimeoutExpired:
            log.warning(
                "the guard of this process, %d, does not end: it goes with this process", self._sibling.pid
            )

    def _replace(self, why: str) -> None:
        log.error("the guard of this process %s: starting another", why)
        self._end()
        self._sibling = self._start()

    def _silent_s(self) -> float:
        return BootClock().now() - float(struct.unpack("=d", self._page[LOOKED_AT : LOOKED_AT + 8])[0])

    def _looks_within(self, seconds: float) -> bool:
        """Nothing is under way meanwhile, so nothing is killed for a trust window that has ended."""
        asked_at = BootClock().now()
        while (waited_s := BootClock().now() - asked_at) < seconds:
            if self._silent_s() < waited_s:
                return True
            time.sleep(0.01)
        return False

    def _start(self) -> subprocess.Popen[bytes]:
        """In a session of its own: what ends this process's group (a terminal, Airflow's supervisor) leaves the sibling to see it
        through, and the sibling can end the group without ending itself. Until its first look it counts as having looked."""
        self._page[LOOKED_AT : LOOKED_AT + 8] = struct.pack("=d", BootClock().now())
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
