"""`python -m simulation.mutants`: plants one fault after the other and lets the simulator look for it; then those in the
ledger's SQL, which the interleavings on PostgreSQL look for. A fault that 2,000 seeds, or 4,000 interleavings, do not find means
that the proof, not the protocol, is not good enough.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from simulation import planted_outages, planted_runtime  # noqa: F401 - they register their faults
from simulation.planted_ledger import PLANTED
from simulation.run import run_seed

SEEDS = 2000
UNFIT = re.compile(r"bug: .*: (TypeError|AttributeError|NameError): ")
"""The planted function itself fails, since what it replaces has changed: that breaks no rule, and the fault is written anew."""


@dataclass(frozen=True, slots=True)
class Caught:
    name: str
    seed: int
    """0: it survived."""
    steps: int
    text: str

    @property
    def rule(self) -> str:
        return self.text.partition(":")[0] if self.seed else "survived"


def hunt(name: str, seeds: Iterable[int]) -> Caught:
    """In this process, which is spoilt afterwards."""
    PLANTED[name]()
    steps = 0
    for seed in seeds:
        result = run_seed(seed)
        steps += result.steps
        if result.violation and not fails_anyway(seed):
            return Caught(name, 0 if UNFIT.match(result.violation) else seed, steps, result.violation)
    return Caught(name, 0, steps, "")


def fails_anyway(seed: int) -> bool:
    """Without the fault, in a process of its own: such a seed has found something else, and catches nothing here."""
    command = [
        sys.executable,
        "-m",
        "simulation.run",
        "--seeds",
        "1",
        "--first",
        str(seed),
        "--processes",
        "1",
    ]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, "--transcripts", folder], capture_output=True, text=True, check=False
        )
    return done.returncode != 0


def hunt_elsewhere(name: str, seeds: int) -> Caught:
    """In a process of its own."""
    command = [sys.executable, "-m", "simulation.mutants", "--one", name, "--seeds", str(seeds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    seed, steps, text = done.stdout.splitlines()[-1].split("\t", 2)
    return Caught(name, int(seed), int(steps), text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", choices=sorted(PLANTED))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args(arguments)
    if given.one:
        caught = hunt(given.one, range(1, given.seeds + 1))
        print(f"{caught.seed}\t{caught.steps}\t{caught.text}")
        return 0
    since, found = time.monotonic(), []
    with ThreadPoolExecutor(given.processes) as pool:
        for caught in pool.map(lambda name: hunt_elsewhere(name, given.seeds), PLANTED):
            found.append(caught)
            print(
                f"{caught.name:<42} {caught.rule:<9} seed {caught.seed:>4}  {caught.steps:>8} steps  {caught.text[:90]}",
                flush=True,
            )
    from interleavings.run import (  # they need what only the whole run has: a PostgreSQL
        TRIES,
        explorers,
        hunt_all,
    )

    with explorers(given.processes) as processes:
        in_sql = hunt_all(processes, TRIES)
    planted = len(found) + len(in_sql)
    survived = sum(not caught.seed for caught in found) + sum(not seen for _, _, seen in in_sql)
    print(f"{time.monotonic() - since:.0f} s; {len(in_sql)} of the faults in the ledger's SQL")
    print(f"mutants: planted={planted} caught={planted - survived} survived={survived}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
