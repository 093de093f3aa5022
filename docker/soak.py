"""``make soak MINUTES=60``: the simulator, the interleavings and chaos in turns, with seeds that nobody ran, until told to stop.

Each part that ran to its end appends one line to a report; the next soak goes on behind its seeds. The part that has had the
least time comes next, so that each gets its share. ``--totals`` adds up what the report says.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from localstack.process import Process

ROOT = Path(__file__).resolve().parents[1]
END_SECONDS = 120.0
"""How long a part may take to end what it has started."""


@dataclass(frozen=True)
class Part:
    command: Callable[[int], list[str]]
    """From its first seed."""
    seeds: int
    needs_s: float = 0.0
    """It is not begun when less is left: nothing that is cut off counts."""


def parts(given: argparse.Namespace) -> dict[str, Part]:
    simulate = [
        "-m",
        "simulation.run",
        "--transcripts",
        str(given.state / "transcripts"),
        "--seeds",
        str(given.seeds),
    ]
    interleave = ["-m", "interleavings.run", "--only", "triples", "--triples", str(given.triples)]
    chaos = ["docker/chaos.py", "--state", str(given.state / "chaos"), "--minutes", str(given.chaos_minutes)]
    return {
        "simulate": Part(lambda first: [*simulate, "--first", str(first)], given.seeds),
        "interleave": Part(lambda first: [*interleave, "--first", str(first)], given.triples),
        "chaos": Part(lambda seed: [*chaos, "--seed", str(seed)], 1, given.chaos_minutes * 60 + 600),
    }  # fmt: skip


class Report:
    """One line for each part that ran to its end: when, at which commit, how long, from which seed, and its own last line."""

    LINE = re.compile(
        r"(\S+) commit=(\S+) seconds=(?P<s>\d+) first=(?P<first>\d+) exit=(?P<exit>-?\d+) (?P<said>.*)"
    )

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines = path.read_text().splitlines() if path.exists() else []

    def add(self, seconds: float, first: int, code: int, said: str) -> None:
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = f"{at} commit={_commit()} seconds={seconds:.0f} first={first} exit={code} {said}"
        self.lines.append(line)
        with self._path.open("a") as report:
            report.write(f"{line}\n")
        print(line, flush=True)

    def next_seed(self, name: str, seeds: int) -> int:
        """Behind those of the last line; at first one that depends on the moment, so that nobody else has run it."""
        found = [
            m for line in self.lines if (m := self.LINE.match(line)) and m["said"].startswith(f"{name}:")
        ]
        return int(found[-1]["first"]) + seeds if found else int(time.time()) * 1000

    def totals(self) -> list[str]:
        sums: dict[str, Counter[str]] = defaultdict(Counter)
        for found in (m for line in self.lines if (m := self.LINE.match(line))):
            name, _, numbers = found["said"].partition(":")
            sums[name].update({key: int(value) for key, value in re.findall(r"(\w+)=(\d+)\b", numbers)})
            sums[name].update({"times": 1, "failed": int(found["exit"] != "0"), "seconds": int(found["s"])})
        return [
            f"{name}: hours={of.pop('seconds') / 3600:.2f} " + " ".join(f"{k}={v}" for k, v in of.items())
            for name, of in sums.items()
        ]


class Soak:
    def __init__(self, given: argparse.Namespace) -> None:
        self._state, self._ends_at = given.state, time.monotonic() + given.minutes * 60
        self._parts = {name: part for name, part in parts(given).items() if name in given.parts}
        self._report = Report(given.state / "report.txt")
        self._spent = Counter[str]()
        self._stopped = False
        self.failed = False

    def stop(self, *_: object) -> None:
        self._stopped = True

    def run(self) -> None:
        while fitting := [n for n, p in self._parts.items() if p.needs_s < self._left()]:
            self._run(min(fitting, key=lambda name: self._spent[name]))

    def _left(self) -> float:
        return 0.0 if self._stopped else self._ends_at - time.monotonic()

    def _run(self, name: str) -> None:
        part, since = self._parts[name], time.monotonic()
        first = self._report.next_seed(name, part.seeds)
        log = self._state / f"{name}-{first}.log"
        child = Process.spawn([sys.executable, *part.command(first)], _environment(), log, ROOT)
        code = self._wait(child)
        self._spent[name] += time.monotonic() - since
        if code is None:
            log.unlink()
            return
        last = ([line for line in log.read_text().splitlines() if line.startswith(f"{name}: ")] or [""])[-1]
        self.failed |= code != 0
        said = last if last and not code else f"{last or f'{name}: no result'} log={log}"
        self._report.add(time.monotonic() - since, first, code, said)
        if not code:
            log.unlink()

    def _wait(self, child: Process) -> int | None:
        """How it ended; None when it was told to, and all that it had started with it."""
        while child.alive():
            if self._left() <= 0:
                child.send(signal.SIGINT)
                child.wait(END_SECONDS)
                child.send_tree(signal.SIGKILL)
                return None
            time.sleep(0.2)
        return child.exit_code()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "tests", ROOT, ROOT / "docker")))}


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    return (
        subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        or "unknown"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="docker/soak.py", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder for the report, logs and data")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="until told to stop when not given"
    )
    parser.add_argument("--parts", nargs="+", default=["simulate", "interleave", "chaos"])
    parser.add_argument("--seeds", type=int, default=500, help="of the simulator, for one line")
    parser.add_argument("--triples", type=int, default=2000, help="interleavings, for one line")
    parser.add_argument("--chaos-minutes", type=float, default=10.0, help="of faults, for one line")
    parser.add_argument("--totals", action="store_true", help="only add up what the report says")
    given = parser.parse_args(arguments)
    given.state = given.state.resolve()
    if given.totals:
        print("\n".join(Report(given.state / "report.txt").totals()))
        return 0
    given.state.mkdir(parents=True, exist_ok=True)
    soak = Soak(given)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(
            number, soak.stop
        )  # and so the default again in children, also where SIGINT was ignored
    soak.run()
    return int(soak.failed)


if __name__ == "__main__":
    sys.exit(main())
