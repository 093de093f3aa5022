"""`python -m simulation.run --seeds 2000 --first 1`: runs seeds, two at a time, and prints one line for each that fails.

Act one: things go wrong, and the rules are looked at after every write. Act two: everything heals, and within bounded virtual
time everything is settled (L1), or the run says in words what is still pending.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from simulation.airflow import Slot
from simulation.checks import Violation
from simulation.contenders import Contender
from simulation.faults import Fate, Script
from simulation.kernel import Kernel, Process
from simulation.nemesis import Nemesis
from simulation.people import Evidence
from simulation.plan import Plan, draw
from simulation.threads import substituted
from simulation.world import GROUP, TOPIC, World

from airflow_kafka_exactly.errors import TopicMissing

HEAL_S = 240.0
STOPS = tuple(fate for fate in Fate if fate is not Fate.NONE)
STEPS_AT_MOST = 400_000


@dataclass(slots=True)
class Result:
    seed: int
    mode: str
    violation: str
    steps: int
    effects: int
    faults: Counter[str]
    virtual_s: float
    digest: str
    lines: list[str] = field(default_factory=list)


class Run:
    """One seed."""

    def __init__(self, plan: Plan, script: Script | None = None, chance: random.Random | None = None) -> None:
        self.plan, self._script = plan, script
        self.kernel = Kernel(chance or random.Random(f"run {plan.seed} {plan.mode}"))

    def go(self) -> Result:
        with substituted(self.kernel):
            self._build()
            with _logged(self.world):
                try:
                    violation = self._acts()
                finally:
                    result = self._result()
                    self.kernel.close()
        result.violation = violation
        result.lines = [str(self.plan), *result.lines] if violation else []
        return result

    def follow(self, told: Callable[[], Iterator[float]]) -> str:
        """A story instead of chance: returns what is wrong at its end."""
        with substituted(self.kernel):
            self._build()
            with _logged(self.world):
                self._start()
                for seconds in told():
                    self.kernel.run(self._broken, seconds)
                violation = self._verdict()
                lines = self.world.trace.lines[:]
                self.kernel.close()
                self.world.trace.lines = lines
        return violation

    def _build(self) -> None:
        plan, world = self.plan, World(self.plan, self.kernel, self._script)
        self.world = world
        self.slots = [Slot(world, f"s{n}") for n in range(plan.slots)]
        self.contenders = [Contender(world, f"c{n}") for n in range(plan.coordinators)]
        self.evidence = Evidence(world)
        self.nemesis = Nemesis(world, self.slots, self.contenders, self.evidence)

    def _result(self) -> Result:
        world = self.world
        return Result(
            seed=self.plan.seed,
            mode=self.plan.mode,
            violation="",
            steps=self.kernel.steps,
            effects=len(world.target.log),
            faults=Counter(world.faults.counts),
            virtual_s=self.kernel.now,
            digest=world.trace.sum(),
            lines=world.trace.text(),
        )

    def _start(self) -> None:
        world = self.world
        world.network.watch()
        world.zookeeper.watch()
        world.watch_kafka()
        for part in (*self.contenders, *self.slots, self.evidence, self.nemesis):
            part.start()
        world.kernel.spawn(world.kernel.world, "producer", self._produce)

    def _acts(self) -> str:
        world = self.world
        self._start()
        enumerated = self.plan.mode == "enumerate"
        world.kernel.run(lambda: self._broken() or (enumerated and self._quiet()), self.plan.act_s)
        if not self._broken():
            self.nemesis.heal()
            world.trace("world", "heals")
            world.kernel.run(lambda: self._broken() or self._quiet(), HEAL_S + self.plan.records)
        return self._verdict()

    def _broken(self) -> bool:
        world = self.world
        return bool(world.checks.found or world.kernel.failures or world.kernel.steps > STEPS_AT_MOST)

    def _quiet(self) -> bool:
        """Looked at twice a second: it costs more than a step."""
        now = self.world.kernel.now
        if now < self._look_at or not self._produced:
            return False
        self._look_at = now + 0.5
        return not self._pending()

    def _pending(self) -> list[str]:
        healed_at = self.nemesis.healed_at
        endless = [
            f"{slot.name} has `until=end`, and did not end since"
            for slot in self.slots
            if self.plan.choices.until_end and healed_at is not None and slot.ended_at <= healed_at
        ]
        return self.world.ending.pending(GROUP) + endless

    _look_at, _produced = 0.0, False
    expected = ""
    """How a story ends that does not end well."""

    def _verdict(self) -> str:
        world = self.world
        if world.checks.found:
            return world.checks.found[0]
        for task, failure in world.kernel.failures:
            who = f"{task.process.name} {task.name}" if task is not None else "an event"
            return f"bug: {who}: {type(failure).__name__}: {failure}"
        pending = self._pending()
        if world.kernel.steps > STEPS_AT_MOST:
            return f"bug: {STEPS_AT_MOST} steps in {world.kernel.now:.1f} s: something spins"
        if pending:
            return f"L1: {HEAL_S:.0f} s after everything healed: {'; '.join(pending)}"
        try:
            world.ending.settled(GROUP)
        except Violation as broken:
            return str(broken)
        return ""

    def _produce(self) -> None:
        world, plan = self.world, self.plan
        for number in range(plan.records):
            self._produce_one(number, world.chance.randrange(plan.partitions))
            if plan.produce_for_s:
                world.kernel.park(plan.produce_for_s / plan.records)
        self._produced = True

    def _produce_one(self, number: int, partition: int) -> None:
        world = self.world
        try:
            partition %= len(world.broker.topic(TOPIC).logs)  # it may have been made again with fewer
            world.broker.produce(TOPIC, b"v%d" % number, number=partition)
        except TopicMissing:
            return
        if world.chance.random() < self.plan.gaps:
            world.broker.gap(TOPIC, partition, world.chance.randint(1, 3))


class _logged:  # noqa: N801 - used like a function
    """Production's own words become part of the trace; an error of the coordinator's catch-all is a finding."""

    def __init__(self, world: World) -> None:
        self._world, self._handler = world, logging.Handler()
        self._handler.emit = self._emit  # type: ignore[method-assign]
        self._logger = logging.getLogger("airflow_kafka_exactly")

    def __enter__(self) -> None:
        self._before = (self._logger.level, self._logger.propagate, self._logger.handlers)
        self._logger.level, self._logger.propagate, self._logger.handlers = (
            logging.WARNING,
            False,
            [self._handler],
        )
        self._logger.manager._clear_cache()  # type: ignore[attr-defined]

    def __exit__(self, *_: object) -> None:
        self._logger.level, self._logger.propagate, self._logger.handlers = self._before
        self._logger.manager._clear_cache()  # type: ignore[attr-defined]

    def _emit(self, record: logging.LogRecord) -> None:
        process = Kernel.process()
        who = process.name if isinstance(process, Process) else "late"
        self._world.trace(who, f"| {record.getMessage()}")
        if record.levelno >= logging.ERROR and record.exc_info:
            error = record.exc_info[1]
            if not self._world.checks.found and not self._world.kernel.over:
                self._world.checks.found.append(
                    f"bug: {who}: {record.getMessage()}: {type(error).__name__}: {error}"
                )


def run_seed(seed: int, mode: str = "normal") -> Result:
    return Run(draw(seed, mode)).go()


VICTIMS = ("s0", "s1", "c0", "c1", "evidence")


def enumerate_stops(seed: int) -> Iterator[Result]:
    """A stop, of each kind, at every call of a port by each party of a small run: first counted, then done."""
    for victim in VICTIMS:
        counted = Script(victim, 0, Fate.NONE)
        yield Run(draw(seed, "enumerate"), counted).go()
        for at in range(1, counted.calls + 1):
            for fate in STOPS:
                script = Script(victim, at, fate)
                result = Run(draw(seed, "enumerate"), script).go()
                if result.violation:
                    result.violation += f" ({fate.name.lower()} at call {at} of {victim}, {script.hit})"
                yield result


def run_many(seed: int, mode: str = "normal") -> list[Result]:
    """What a seed stands for."""
    return list(enumerate_stops(seed)) if mode == "enumerate" else [run_seed(seed, mode)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--mode", default="normal")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--transcripts", default=".state/simulate")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args(arguments)
    seeds, since = range(given.first, given.first + given.seeds), time.monotonic()
    runs = steps = effects = violations = 0
    faults, virtual_s = Counter[str](), 0.0
    for result in _results(seeds, given.mode, given.processes):
        runs += 1
        steps, effects, virtual_s = (
            steps + result.steps,
            effects + result.effects,
            virtual_s + result.virtual_s,
        )
        faults.update(result.faults)
        if result.violation:
            violations += 1
            _report(result, Path(given.transcripts))
    elapsed_s = time.monotonic() - since
    print(", ".join(f"{name} {n}" for name, n in sorted(faults.items())))
    print(
        f"{runs} runs, {virtual_s:.0f} virtual seconds in {elapsed_s:.1f} s, {steps / elapsed_s:.0f} steps/s"
    )
    print(
        f"simulate: seeds={given.seeds} steps={steps} effects={effects} faults={sum(faults.values())} violations={violations}"
    )
    return 1 if violations else 0


def _results(seeds: Iterable[int], mode: str, processes: int) -> Iterable[Result]:
    if processes <= 1:
        for seed in seeds:
            yield from run_many(seed, mode)
        return
    with ProcessPoolExecutor(processes) as pool:
        for results in pool.map(
            run_many, seeds, (mode for _ in seeds), chunksize=1 if mode == "enumerate" else 4
        ):
            yield from results


def _report(result: Result, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.mode}-{result.seed}.txt"
    path.write_text("\n".join([*result.lines, result.violation]) + "\n")
    mode = "" if result.mode == "normal" else f" MODE={result.mode}"
    print(f"make simulate SEEDS=1 FIRST={result.seed}{mode}   # {result.violation} ({path})", flush=True)


if __name__ == "__main__":
    sys.exit(main())
