"""One operating system process, started by us or found again by its id."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_POLL_SECONDS = 0.05


class Process:
    """A process known by its id *and* its start time, so that a reused id is never signalled."""

    def __init__(self, pid: int, started: str, child: "subprocess.Popen[bytes] | None" = None) -> None:
        self.pid = pid
        self.started = started
        self._child = child

    @classmethod
    def spawn(
        cls, command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path
    ) -> "Process":
        """Start ``command`` as the leader of its own session, without a standard input, its output appended to ``log``."""
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(child.pid, start_time(child.pid), child)

    def alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None  # also reaps it
        return bool(self.started) and start_time(self.pid) == self.started

    def exit_code(self) -> int | None:
        """Of a child that has ended; None while it runs, and of one that an earlier program started."""
        return None if self._child is None else self._child.poll()

    def send(self, number: signal.Signals) -> None:
        """To the process alone."""
        if self.alive():
            _send(self.pid, number)

    def send_tree(self, number: signal.Signals) -> None:
        """To the process and all it started: its descendants (PostgreSQL's children have groups of their own), and those that
        stayed in its group, also when the process itself has ended."""
        tree = [self.pid, *descendants(self.pid)] if self.alive() else []
        if start_time(self.pid) in ("", self.started):  # else the id was given to somebody else since
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
        for pid in tree:
            _send(pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether it ended within this time."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True


def start_time(pid: int) -> str:
    """When the kernel started this process, in its ticks since boot; empty when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, threads, started = fields[0], int(fields[17]), fields[19]
    # A killed JVM looks like a zombie while its other threads still end and hold its ports.
    return "" if state in "ZX" and threads <= 1 else started


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, as they are now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        queue += (below := children.get(queue.pop(), []))
        found += below
    return found


def with_environment(name: str, value: str) -> list[int]:
    """Ids of the running processes whose environment has ``name=value``: what a crashed parent left behind."""
    wanted = f"{name}={value}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(entry.name) != os.getpid() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
