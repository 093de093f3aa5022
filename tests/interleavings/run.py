"""`python -m interleavings.run`: everything against everything, on a PostgreSQL of its own."""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from interleavings import of_evidence, of_leaders  # noqa: F401 - they register their operations
from interleavings.build import functions, instrumented
from interleavings.harness import Harness, Run, Stop
from interleavings.judge import violations
from interleavings.of_members import IN_FLIGHT
from interleavings.operations import OPERATIONS, Operation
from interleavings.planted import FAULTS, Fault
from interleavings.scenes import SCENES, build
from ledger_stage import MemoryStage
from localstack import PostgreSQL

TRIPLES, TRIES = 20_000, 4000
SAID_EVERY_S = 30.0
SKIPPING = {name for name, function in functions().items() if "skip locked" in function.text}
"""They do not wait for what others hold, so more locks make them do something else."""
ENABLED = 0.6
"""Fewer pairs times scenes than that would leave most of what is claimed here unlooked at."""


@dataclass
class Tally:
    runs: int = 0
    waited: int = 0
    alike: int = 0
    """Runs left out, because another has shown what comes of them."""
    barred: bool = False
    violations: list[str] = field(default_factory=list)
    stops: set[str] = field(default_factory=set)

    def add(self, other: Tally) -> None:
        self.runs += other.runs
        self.waited += other.waited
        self.alike += other.alike
        self.violations += other.violations
        self.stops |= other.stops


class Explorer:
    """One database, and what is asked of it."""

    def __init__(self, address: str, scenes: Sequence[str] = ()) -> None:
        name = f"interleave_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(f"create database {name}".encode())
        self._harness = Harness(psycopg.conninfo.make_conninfo(address, dbname=name), scenes)
        self._traces: dict[tuple[str, str], list[Stop]] = {}

    def close(self) -> None:
        self._harness.close()

    def enabled(self, scene: str) -> list[Operation]:
        return [o for o in OPERATIONS.values() if o.enabled(self._harness.scenes[scene])]

    def stops(self, scene: str, operation: Operation) -> list[Stop]:
        if (scene, operation.name) not in self._traces:
            self._traces[scene, operation.name] = self._harness.trace(scene, operation)
        return self._traces[scene, operation.name]

    def run(
        self, scene: str, operations: Sequence[Operation], stops: Sequence[Stop], order: Sequence[int] = ()
    ) -> Run:
        return self._harness.run(scene, operations, stops, order)

    def look(
        self, scene: str, operations: Sequence[Operation], stops: Sequence[Stop], order: Sequence[int] = ()
    ) -> Tally:
        """One interleaving. In some scenes an effect is under way all the time."""
        if self._harness.scenes[scene].in_flight:
            under_way = next(s for s in self.stops(scene, IN_FLIGHT) if s.where == "client:effect")
            operations, stops = [IN_FLIGHT, *operations], [under_way, *stops]
            order = [*(i + 1 for i in order), 0] if order else ()
        run = self.run(scene, operations, stops, order)
        said = " / ".join(f"{o.name} {s.where}".strip() for o, s in zip(operations, stops, strict=True))
        found = [f"{scene}: {said}: {text}" for text in violations(scene, operations, run)]
        return Tally(1, any(run.waited), 0, run.barred, found, {s.where for s in stops if s.where})

    def pairs(self, scene: str, first: Operation, others: Sequence[Operation] = ()) -> Tally:
        """Every stop of `first`, against everything.

        Where the other is barred, so it is at the later stops of that transaction, in the same place: the first holds only
        more there, and has just shown that it wants nothing of what the other holds; nor can it see what the other has not
        committed. What both do after that transaction has stops of its own."""
        tally = Tally()
        for other in others or self.enabled(scene):
            passed, barred = self._passed(scene, first) | self._passed(scene, other), set()
            for stop in [*self.stops(scene, first), Stop()]:
                if stop.transaction in barred:
                    tally.alike += 1
                    continue
                found = self.look(scene, [first, other], [stop, Stop()])
                tally.add(found)
                if found.barred and not passed & SKIPPING:
                    barred.add(stop.transaction)
        return tally

    def triple(self, seed: int) -> Tally:
        draw = random.Random(seed)
        scene = draw.choice([s for s in self._harness.scenes if not self._harness.scenes[s].in_flight])
        operations = draw.choices(self.enabled(scene), k=3)
        stops = [draw.choice(self.stops(scene, o) or [Stop()]) for o in operations[:2]]
        order = draw.choice([(), (0, 1, 2), (1, 0, 2)])
        found = self.look(scene, operations, [*stops, Stop()], order)
        found.violations = [f"triple {seed}: {text}" for text in found.violations]
        return found

    # -- planted faults ------------------------------------------------------------------------------------------------

    def hunt(self, fault: Fault, tries: int) -> tuple[int, str]:
        """How many runs it took to see it, and what was seen; nothing when it was not."""
        self._harness.install(fault.texts)
        try:
            for count, (scene, operations, stop) in enumerate(self._suspects(fault, tries), 1):
                if found := self.look(scene, operations, [stop, Stop()]).violations:
                    return count, found[0]
        finally:
            self._harness.install([])
        return tries, ""

    def _suspects(self, fault: Fault, tries: int) -> Iterator[tuple[str, list[Operation], Stop]]:
        """In an order of chance, pairs of which the first goes through a function that was changed, or the other does."""
        draw = random.Random(fault.name)
        for count in range(tries):
            while True:
                scene = draw.choice(list(self._harness.scenes))
                one, other = draw.choices(self.enabled(scene), k=2)
                if fault.seen_by and count < tries // 2:
                    one, other = (OPERATIONS[name] for name in fault.seen_by)
                    if one in self.enabled(scene) and other in self.enabled(scene):
                        break
                elif self._goes_through(scene, one, fault) or self._goes_through(scene, other, fault):
                    break
            yield scene, [one, other], draw.choice([*self.stops(scene, one), Stop()])

    def _goes_through(self, scene: str, operation: Operation, fault: Fault) -> bool:
        return bool(self._passed(scene, operation) & fault.functions)

    def _passed(self, scene: str, operation: Operation) -> set[str]:
        self.stops(scene, operation)
        return self._harness.passed[scene, operation.name]


# -- all of it, in several processes -----------------------------------------------------------------------------------

_explorer: Explorer


def _open(address: str) -> None:
    global _explorer  # noqa: PLW0603 - one of each process
    _explorer = Explorer(address)


def _pairs(job: tuple[str, str]) -> Tally:
    return _explorer.pairs(job[0], OPERATIONS[job[1]])


def _triples(seeds: Iterable[int]) -> Tally:
    tally = Tally()
    for seed in seeds:
        tally.add(_explorer.triple(seed))
    return tally


def _hunt(job: tuple[str, int]) -> tuple[str, int, str]:
    name, tries = job
    return name, *_explorer.hunt(FAULTS[name], tries)


def enabled_pairs() -> tuple[int, int, list[tuple[str, str]]]:
    """How many pairs times scenes are enabled, of how many, and the jobs: (scene, first operation)."""
    jobs, count = [], 0
    for scene in SCENES:
        made = build(scene, MemoryStage())
        names = [o.name for o in OPERATIONS.values() if o.enabled(made)]
        jobs += [(scene, name) for name in names]
        count += len(names) ** 2
    return count, len(SCENES) * len(OPERATIONS) ** 2, jobs


@contextmanager
def explorers(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes with a database each, on a server of their own."""
    with tempfile.TemporaryDirectory() as folder:
        server = PostgreSQL(Path(folder))
        try:
            server.start()
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(processes, context, _open, (server.address,)) as pool:
                yield pool
        finally:
            server.remove()


def hunt_all(pool: ProcessPoolExecutor, tries: int) -> list[tuple[str, int, str]]:
    """Plants one fault after the other: name, runs it took, and what was seen; nothing when it survived."""
    caught = []
    for found in pool.map(_hunt, [(name, tries) for name in FAULTS]):
        caught.append(found)
        print(f"{found[0]:<42} {found[1]:>5} runs  {found[2][:120] or 'survived'}", flush=True)
    return caught


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--triples", type=int, default=TRIPLES)
    parser.add_argument("--first", type=int, default=1, help="the first triple's seed")
    parser.add_argument("--tries", type=int, default=TRIES, help="runs for one planted fault")
    parser.add_argument("--only", choices=["pairs", "triples", "planted"])
    given = parser.parse_args(arguments)
    since, tally = time.monotonic(), Tally()
    pairs, of, jobs = enabled_pairs()
    random.Random(0).shuffle(jobs)  # so that what is done, and how long it took, says something of the rest
    print(f"{pairs} pairs x scenes of {of} are enabled ({100 * pairs // of} %)", flush=True)
    caught: list[tuple[str, int, str]] = []
    with explorers(given.processes) as pool:
        if given.only in (None, "planted"):
            caught = hunt_all(pool, given.tries)
        if given.only in (None, "pairs"):
            _look("pairs", tally, pool.map(_pairs, jobs), len(jobs))
        if given.only in (None, "triples"):
            seeds = range(given.first, given.first + given.triples)
            parts = [seeds[i : i + 100] for i in range(0, len(seeds), 100)]
            _look("triples", tally, pool.map(_triples, parts), len(parts))
    stops = sum(instrumented(f.text).stops for f in functions().values())
    seen = sum(bool(text) for _, _, text in caught)
    print(
        f"{stops} stops in {len(functions())} functions; {tally.waited} runs waited; {tally.alike} more are alike; "
        f"{time.monotonic() - since:.0f} s"
    )
    print(
        f"interleave: pairs={pairs} stops={len(tally.stops)} runs={tally.runs} violations={len(tally.violations)} "
        f"planted={len(caught)} caught={seen}"
    )
    return int(bool(tally.violations) or seen < len(caught) or pairs < ENABLED * of)


def _look(what: str, tally: Tally, found: Iterator[Tally], of: int) -> None:
    """Tells of each violation at once, and now and then how far it is."""
    since = said = time.monotonic()
    for count, done in enumerate(found, 1):
        for text in done.violations[: max(0, 50 - len(tally.violations))]:
            print(text, flush=True)
        tally.add(done)
        now = time.monotonic()
        if now - said > SAID_EVERY_S:
            said, left = now, (now - since) * (of - count) / count
            print(
                f"{what}: {count} of {of} parts, {tally.runs} runs, {len(tally.violations)} violations; "
                f"{now - since:.0f} s, about {left:.0f} s left",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
