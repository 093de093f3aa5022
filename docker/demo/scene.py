"""What every fault needs to aim and to look."""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from localstack import AirflowStack
from localstack.process import start_time

from demo.airflow_api import AirflowApi
from demo.books import Books, Busy
from demo.payments import Effects, Topic
from demo.progress import Progress, wait_for

PAYMENTS_DAG, EVIDENCE_DAG = "demo_payments", "kafka_exactly_evidence_check"
_BUSY_SECONDS = 90.0
_GUARD = "adapters/guard/watch.py"
_LISTENS = "0A"  # in /proc/net/tcp


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    stack: AirflowStack
    api: AirflowApi
    books: Books
    topic: Topic
    effects: Effects
    progress: Progress
    dag: str = PAYMENTS_DAG

    def say(self, text: str) -> None:
        self.progress.say(text)

    def busy_worker(self, *, other_than: str = "", committing: bool = False) -> Busy:
        """A worker in the middle of a batch, as soon as there is one; with ``committing`` one that commits offsets."""

        def found() -> Busy | None:
            busy = (b for b in self.books.busy_workers() if b.slot != other_than and start_time(b.pid))
            return next((b for b in busy if b.moves_frontier or not committing), None)

        aim = (
            f"a worker in the middle of a batch{f', in another slot than {other_than}' if other_than else ''}"
        )
        return wait_for(aim, found, _BUSY_SECONDS, self.describe_members)

    def task_logs(self) -> str:
        """Everything that the members' tasks have logged so far."""
        logs = sorted((self.stack.airflow.home / "logs").glob(f"dag_id={self.dag}/**/*.log"))
        return "\n".join(log.read_text(errors="replace") for log in logs)

    def describe_members(self) -> str:
        lives = [
            f"{life.slot} life {life.incarnation} ({life.kind}, {life.process})"
            for life in self.books.lives().values()
        ]
        tasks = [
            f"{t['task_id']}[{t['map_index']}] {t['state']} try {t['try_number']}"
            for t in self.api.tasks(self.dag)
        ]
        return f"members: {'; '.join(lives) or 'none'}. Tasks: {'; '.join(tasks) or 'none'}. {self.describe_ledger()}"

    def describe_ledger(self) -> str:
        ends = self.topic.ends()
        frontiers = {number: row[0] for number, row in self.books.partitions().items()}
        settled = sum(min(frontiers.get(number, 0), end) for number, end in ends.items())
        return (
            f"{settled} of {sum(ends.values())} offsets are below the frontiers, unclosed doubts "
            f"{self.books.unclosed_doubts() or 'none'}, open orphan commits {self.books.open_orphans()}"
        )


def guards_of(pid: int) -> list[int]:
    """The siblings that watch over this worker's trust window: children of its process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and _GUARD in command:
                found.append(int(entry.name))
    return found


def listener(address: str) -> int | None:
    """The process that listens on this ``host:port``: the ledger names a leader by its channel's address."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    sockets = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(port) and fields[3] == _LISTENS:
                sockets.add(f"socket:[{fields[9]}]")
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if str(handle.readlink()) in sockets:
                return int(handle.parts[2])
    return None


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)
