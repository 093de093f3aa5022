"""The sibling's program: ends a worker, and everything that the worker has started, when its trust window ends during an effect.

It runs by its path in an interpreter without site packages, which starts in a few milliseconds: so it imports nothing but the
standard library.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import struct
import sys
import time
from pathlib import Path

PAGE = struct.Struct("=d?")
"""End of the trust window in seconds of CLOCK_BOOTTIME; whether effects are under way."""
LOOKED = struct.Struct("=d")
LOOKED_AT = 16
"""When this program has last looked, by the same clock: written here, read by the worker."""
LOOK_EVERY_S = 0.05
KILL_WITHIN_S = 2.0


def watch(page_descriptor: int, guarded: int, pid: int) -> None:
    """Until the guarded process is gone, or has to go."""
    page = mmap.mmap(page_descriptor, mmap.PAGESIZE)
    gone = select.poll()
    gone.register(guarded, select.POLLIN)
    while not gone.poll(LOOK_EVERY_S * 1000):
        ends_at, busy = PAGE.unpack(page[: PAGE.size])
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        page[LOOKED_AT : LOOKED_AT + LOOKED.size] = LOOKED.pack(now)
        late_s = now - ends_at
        if busy and late_s > 0:
            say(f"the trust window ended {late_s:.1f} s ago during an effect: ending the worker (S1)")
            Doomed(pid, guarded).end()
            return


class Doomed:
    """A worker with all its descendants, and its process group where it leads one: under Airflow the group is the task's own,
    under `dag.test()` it is the user's shell. What has left both (a double fork into a session of its own) is not found."""

    def __init__(self, pid: int, guarded: int) -> None:
        self._known = {pid: guarded}
        self._group = pid if os.getpgid(pid) == pid else None

    def end(self) -> None:
        """Stop all of them before any is killed: one that is stopped starts no other, and a child of a killed one would be
        nobody's descendant."""
        self._send(signal.SIGSTOP)
        while self._found():
            self._send(signal.SIGSTOP)
        until = time.monotonic() + KILL_WITHIN_S
        while time.monotonic() < until:
            self._send(signal.SIGKILL)
            if not self._found() and not self._left():
                return
            time.sleep(0.01)
        say(f"still there {KILL_WITHIN_S:.0f} s after they were killed: {sorted(self._left())}")

    def _found(self) -> bool:
        """Whether there are relatives that were not known before."""
        present, before = processes(), len(self._known)
        while True:
            strangers = [process for process in present if process[0] not in (*self._known, os.getpid())]
            fresh = [
                pid
                for pid, parent in relatives(strangers, self._left(), self._group)
                if self._meet(pid, parent)
            ]
            if not fresh:
                return len(self._known) > before

    def _meet(self, pid: int, parent: int) -> bool:
        """A number is used again some day: the descriptor holds on to this process, if it is still the one that was seen."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            if any(parent == its for _, its, _ in processes(pid)):
                self._known[pid] = descriptor
                return True
            os.close(descriptor)
        return False

    def _send(self, what: signal.Signals) -> None:
        for pid, descriptor in self._known.items():
            try:
                signal.pidfd_send_signal(descriptor, what)
            except ProcessLookupError:
                continue
            except PermissionError:
                say(f"process {pid} is another user's: it goes on")

    def _left(self) -> set[int]:
        ended = select.poll()
        by_descriptor = {descriptor: pid for pid, descriptor in self._known.items()}
        for descriptor in by_descriptor:
            ended.register(descriptor, select.POLLIN)
        return set(self._known) - {by_descriptor[descriptor] for descriptor, _ in ended.poll(0)}


def relatives(
    strangers: list[tuple[int, int, int]], known: set[int], group: int | None
) -> list[tuple[int, int]]:
    """Those of the strangers that are children of the known ones or in their group, with their parents. Never the first
    process or a thread of the kernel: their group is 0, which is no group."""
    return [
        (pid, parent)
        for pid, parent, its_group in strangers
        if parent in known or (group is not None and its_group == group)
    ]


def processes(only: int | None = None) -> list[tuple[int, int, int]]:
    """Number, parent and process group of each process that has not ended."""
    found = []
    every = Path("/proc")
    for pid in [only] if only is not None else [int(p.name) for p in every.iterdir() if p.name.isdigit()]:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # The name before the last parenthesis may hold anything.
            state, parent, group = (
                Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[:3]
            )
            if state not in "ZX":
                found.append((pid, int(parent), int(group)))
    return found


def say(what: str) -> None:
    print(f"kafka-exactly: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    watch(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
