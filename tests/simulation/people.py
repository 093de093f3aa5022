"""The evidence check's runs, and the people it asks. Runs overlap, die half way, and people answer late or twice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from simulation.effects import key_of
from simulation.kernel import Process
from simulation.plan import Kind
from simulation.points import Wire
from simulation.world import World

from airflow_kafka_exactly.errors import KafkaExactlyError, Unavailable
from airflow_kafka_exactly.protocol.claims import CheckReference, Decision, DoubtFacts
from airflow_kafka_exactly.protocol.evidence import Ruling
from airflow_kafka_exactly.runtime import evidence
from airflow_kafka_exactly.runtime.evidence import Ruled


class Evidence:
    def __init__(self, world: World) -> None:
        self._world = world

    def start(self) -> None:
        """Somebody announces doubts, and each announcement becomes a run."""
        self._world.kernel.spawn(self._world.kernel.world, "announcer", self._announce)

    def sweep(self) -> None:
        """A run by hand, over everything that is open."""
        self._run(lambda ledger: [facts.doubt_id for facts in ledger.announce(1000, 0.0)])

    def write(self, decision: Decision) -> None:
        """Once more, by a process of its own."""
        process = self._world.process("evidence")

        def main() -> None:
            with contextlib.suppress(KafkaExactlyError):
                self._ledger(process).decide(decision)

        self._world.start(process, "main", main)

    def _announce(self) -> None:
        world = self._world
        kernel, ledger = world.kernel, self._ledger(world.kernel.world)
        while True:
            kernel.park(kernel.chance.uniform(0.2, 1.0))
            found = [
                facts.doubt_id
                for facts in ledger.announce(world.plan.announce_limit, world.plan.announce_again_s)
            ]
            if found:
                self._run(lambda _, ids=found: ids)

    def _ledger(self, process: Process) -> Any:
        return Wire(self._world.points, process, "ledger", self._world.ledger.evidence)

    def _run(self, gather: Callable[[Any], Sequence[int]]) -> None:
        process = self._world.process("evidence")
        self._world.start(process, "main", lambda: self._main(process, gather))

    def _main(self, process: Process, gather: Callable[[Any], Sequence[int]]) -> None:
        """One task after the other, like the DAG's; a failed one is simply the end of the run."""
        ledger, kernel = self._ledger(process), self._world.kernel
        try:
            doubts = gather(ledger)
            self._await_ripe(ledger, doubts)
            examined = evidence.examine(ledger, doubts)
            left = [f.doubt_id for f in (*examined.to_check, *examined.to_ask)]
            kernel.park(kernel.chance.uniform(0.0, 0.5))
            asked = evidence.examine(ledger, left, self._resolve).to_ask
            if asked:
                self._ask_person(ledger, asked)
        except (KafkaExactlyError, Unavailable) as failure:
            self._world.trace(process.name, f"fails: {failure}")

    def _await_ripe(self, ledger: Any, doubts: Sequence[int]) -> None:
        for _ in range(20):
            waiting = evidence.waits(ledger, doubts)
            if len(waiting) < len(doubts) or all(wait.tells for wait in waiting.values()):
                return
            times = [w.for_s for w in waiting.values() if w.for_s is not None]
            self._world.kernel.park(min([*times, 1.0]) + 0.01)

    def _resolve(self, _: CheckReference) -> Callable[..., Any]:
        functions, kernel = self._world.functions, self._world.kernel
        if self._world.plan.kind is Kind.UNSURE:
            return functions.cannot_tell

        def slowly(given: Any) -> bool:
            """The answer is of the moment it is given; what is written later is bound to the version that was judged."""
            answer = functions.check(given)
            kernel.park(0.2 * kernel.chance.random())
            return answer

        return slowly

    def _ask_person(self, ledger: Any, asked: Sequence[DoubtFacts]) -> None:
        """Truthful when they look, and slow to say so; sometimes they say it twice."""
        kernel = self._world.kernel
        rulings = [
            Ruled(doubt_id=f.doubt_id, version=f.version, ruling=self._truth(f), person="ann") for f in asked
        ]
        for _ in range(kernel.chance.choice((1, 1, 2))):
            kernel.park(kernel.chance.uniform(0.0, 3.0))
            evidence.settle(ledger, rulings)

    def _truth(self, facts: DoubtFacts) -> Ruling:
        doubt = self._world.ledger.state.doubt(facts.doubt_id)
        assert doubt is not None
        keys = [key_of(facts.partition, offset) for offset in doubt.records]
        if any(self._world.target.happened(key) for key in keys):
            return Ruling.HAPPENED
        return Ruling.REDO if self._world.kernel.chance.random() < 0.9 else Ruling.DEAD_LETTER
