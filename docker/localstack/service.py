"""What all services have in common: start, stop, kill, freeze, and a readiness that is awaited, never assumed."""

import contextlib
import os
import signal
import time
from pathlib import Path

from localstack.process import Process, start_time

STATE_VARIABLE = "LOCALSTACK_STATE"
_POLL_SECONDS = 0.1
_LOG_LINES_SHOWN = 25


class ServiceError(RuntimeError):
    """A service did not start or did not become ready; the message ends with its last log lines."""


class Service:
    """One server program on a fixed loopback port with its data in ``folder``.

    A service stopped, killed or restarted keeps its port and its data. With ``keep`` it outlives this process and is stopped
    by ``stop`` of another one that attached to it; without, the kernel ends it with the thread that started it.
    """

    ready_seconds = (
        120.0  # Kafka alone takes 10 s on a quiet machine, and 60 s on one that has five times as much to do
    )
    stop_seconds = 20.0
    stop_signal = signal.SIGTERM
    #: What the kernel sends when our process is gone: KILL, because nobody is left to wait for a polite end.
    orphaned_signal = "KILL"

    def __init__(self, name: str, state: Path, *, keep: bool = False) -> None:
        self.name = name
        self.state = state.resolve()
        self.folder = self.state / name
        self.log = self.state / f"{name}.log"
        self.keep = keep
        self._process: Process | None = None

    # What a kind of service says about itself.

    @property
    def address(self) -> str:
        """What a client needs to reach it."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Write the configuration, create empty data; must change nothing when both exist."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def run_as(self) -> list[str]:
        """Arguments of ``setpriv`` for another user than ours."""
        return []

    def ready(self) -> bool:
        """Whether a client would be served now."""
        raise NotImplementedError

    # What anyone may do with it.

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServiceError(f"{self.name} was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.alive()

    def start(self) -> None:
        """Start it and return when it is ready."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start it without waiting, so that several can start side by side."""
        if self.running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        bound = [] if self.keep else ["--pdeathsig", self.orphaned_signal]
        wrapped = ["setpriv", *self.run_as(), *bound, "--", *self.command()]
        environment = {**os.environ, **self.environment(), STATE_VARIABLE: str(self.state)}
        self._process = Process.spawn(wrapped, environment, self.log, self.folder)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + self.ready_seconds
        while not self.ready():
            if not self.running:
                raise ServiceError(f"{self.name} ended before it was ready\n{self.last_lines()}")
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{self.name} was not ready after {self.ready_seconds:.0f} s\n{self.last_lines()}"
                )
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Ask it to end (``stop_signal``), wait, then end what it left behind (SIGKILL)."""
        if self._process is None:
            return
        self.thaw()  # a stopped process does not act on it
        self._process.send(self.stop_signal)
        self._process.wait(self.stop_seconds)
        self.kill()

    def kill(self) -> None:
        """End it and what it started at once, as a crash of the host would."""
        if self._process is None:
            return
        self._process.send_tree(signal.SIGKILL)
        self._process.wait(self.stop_seconds)

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop its clock, as a long pause of the host would (SIGSTOP)."""
        if self._process is not None:
            self._process.send_tree(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_tree(signal.SIGCONT)

    def attach(self, pid: int, started: str) -> None:
        """Take over a service that another process started with ``keep``."""
        self._process = Process(pid, started)

    def identity(self) -> tuple[int, str]:
        """Process id and start time, for ``attach``."""
        return self.pid, start_time(self.pid)

    def remove(self) -> None:
        """Stop it; a kind with data outside ``folder`` also deletes that."""
        self.stop()

    def last_lines(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
            return "\n".join([f"last lines of {self.log}:", *lines])
        return f"{self.log} is missing"
