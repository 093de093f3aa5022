"""What runs in a state folder, written down so that another process can find it and end it."""

import json
import signal
from collections.abc import Iterable
from pathlib import Path

from localstack.process import Process, start_time, with_environment
from localstack.service import STATE_VARIABLE, Service

_FILE = "services.json"
_END_SECONDS = 30.0


def write(state: Path, services: Iterable[Service]) -> None:
    """Replace the list of services; they must have been started."""
    found = {}
    for service in services:
        pid, started = service.identity()
        found[service.name] = {"pid": pid, "started": started, "address": service.address}
    partial = state / f"{_FILE}.partial"
    partial.write_text(json.dumps(found, indent=2))
    partial.rename(state / _FILE)


def read(state: Path) -> dict[str, dict[str, str | int]]:
    """Name to ``pid``, ``started`` and ``address``; empty when nothing was written."""
    try:
        found: dict[str, dict[str, str | int]] = json.loads((state / _FILE).read_text())
    except FileNotFoundError:
        return {}
    return found


def alive(entry: dict[str, str | int]) -> bool:
    return Process(int(entry["pid"]), str(entry["started"])).alive()


def end_all(state: Path) -> int:
    """End everything that was started in this folder, the last started first; returns how many processes there were.

    The list may be old or missing after a crash, so whatever still carries the folder in its environment is ended too.
    """
    ended = 0
    for entry in reversed(read(state).values()):
        process = Process(int(entry["pid"]), str(entry["started"]))
        if process.alive():
            ended += 1
            process.send_tree(signal.SIGCONT)
            # What PostgreSQL, the JVM and Airflow all take as "end now, in order".
            process.send(signal.SIGINT)
            process.wait(_END_SECONDS)
        process.send_tree(
            signal.SIGKILL
        )  # also of a service that died: Airflow's workers outlive a killed scheduler
    for pid in with_environment(STATE_VARIABLE, str(state.resolve())):
        ended += 1
        process = Process(pid, start_time(pid))
        process.send(signal.SIGKILL)
        process.wait(_END_SECONDS)
    (state / _FILE).unlink(missing_ok=True)
    return ended
