"""The plan that a seed draws, and its execution. The same seed gives the same plan; what a fault hits depends on the moment."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException
from demo.progress import DemoError
from localstack import ServiceError

from chaos import faults, outer_faults
from chaos.faults import Strike
from chaos.observing import WORLD_ERRORS
from chaos.stage import Hit, Stage

_TICK_SECONDS = 0.25
_GAP_SECONDS = (2.0, 8.0)
_AT_MOST_SHARE = 0.25
"""Of a run's time, for one fault."""

_MOMENT = (0.0, 0.0)
_SERVICE, _LINK, _PROCESS, _SESSION = (1.0, 15.0), (2.0, 25.0), (3.0, 60.0), (7.0, 15.0)

DECK: dict[str, tuple[Strike, int, tuple[float, float]]] = {
    "kill worker": (faults.kill_worker, 3, _MOMENT),
    "freeze worker": (faults.freeze_worker, 2, _PROCESS),
    "freeze worker and guard": (faults.freeze_worker_and_guard, 2, _PROCESS),
    "freeze worker, guard and supervisor": (faults.freeze_worker_and_all, 1, _PROCESS),
    "kill triggerer": (faults.kill_triggerer, 1, _SERVICE),
    "freeze triggerer": (faults.freeze_triggerer, 1, _PROCESS),
    "kill coordinator": (faults.kill_coordinator, 1, _SERVICE),
    "freeze coordinator": (faults.freeze_coordinator, 1, _PROCESS),
    "kill leader": (faults.kill_leader, 1, _SERVICE),
    "freeze leader": (faults.freeze_leader, 1, _PROCESS),
    "kill scheduler": (faults.kill_scheduler, 1, _MOMENT),
    "kill API server": (faults.kill_api_server, 1, _SERVICE),
    "kill Kafka": (faults.kill_kafka, 1, _SERVICE),
    "restart Kafka": (faults.restart_kafka, 1, _SERVICE),
    "kill ZooKeeper": (faults.kill_zookeeper, 1, _SERVICE),
    "restart ZooKeeper": (faults.restart_zookeeper, 1, _SERVICE),
    "kill PostgreSQL": (faults.kill_postgres, 1, _SERVICE),
    "restart PostgreSQL": (faults.restart_postgres, 1, _SERVICE),
    "cut link": (outer_faults.cut_link, 2, _LINK),
    "freeze link": (outer_faults.freeze_link, 2, _LINK),
    "expire session": (outer_faults.expire_session, 1, _SESSION),
    "clear member": (outer_faults.clear_member, 2, _MOMENT),
    "clear evidence": (outer_faults.clear_evidence, 1, _MOMENT),
    "pause DAG": (outer_faults.pause_dag, 1, _LINK),
    "add partition": (outer_faults.add_partition, 1, _MOMENT),
    "refuse offset commit": (outer_faults.refuse_commit, 2, _MOMENT),
}
"""Name to fault, its cards in the deck, and the shortest and longest time it lasts; the deck is dealt to its end before it is
shuffled anew. Outages of services are short, so that there is work for the other faults to hit."""


@dataclass(frozen=True, slots=True)
class Step:
    at_s: float
    kind: str
    choice: float
    lasts_s: float


@dataclass(slots=True)
class Fault:
    """One that has hit something. Times are seconds since the run began."""

    kind: str
    hit: Hit
    struck_s: float
    produced: Mapping[int, int]
    effects: int
    heal_at_s: float
    healed_s: float | None = None


def plan(seed: int, seconds: float) -> Iterator[Step]:
    chance = random.Random(seed)
    deck = [kind for kind, (_, cards, _) in DECK.items() for _ in range(cards)]
    at_s, dealt = chance.uniform(*_GAP_SECONDS), list[str]()
    while at_s < seconds:
        if not dealt:
            dealt = chance.sample(deck, len(deck))
        kind = dealt.pop()
        lasts_s = min(chance.uniform(*DECK[kind][2]), seconds * _AT_MOST_SHARE)
        yield Step(at_s, kind, chance.random(), lasts_s)
        at_s += chance.uniform(*_GAP_SECONDS)


class Nemesis:
    """Strikes as planned and heals when a fault's time is over; several faults may be under way at once."""

    def __init__(self, stage: Stage, began: float) -> None:
        self._stage, self._began = stage, began
        self.faults: list[Fault] = []
        self.missed: list[str] = []

    def run(self, steps: Iterator[Step], seconds: float) -> None:
        for step in steps:
            self._until(step.at_s)
            self._strike(step)
        self._until(seconds)

    def heal_all(self) -> None:
        for fault in self.faults:
            if fault.healed_s is None:
                self._heal(fault)

    def tick(self) -> None:
        for fault in self.faults:
            if fault.healed_s is None and self._now() >= fault.heal_at_s:
                self._heal(fault)
        self._stage.supervise()
        self._stage.repair()

    def _until(self, moment_s: float) -> None:
        while self._now() < moment_s:
            self.tick()
            time.sleep(_TICK_SECONDS)

    def _strike(self, step: Step) -> None:
        produced, effects, now = self._stage.producing.ends(), self._stage.observer.effects(), self._now()
        self._trying(self._wake_books)
        hit = self._trying(lambda: DECK[step.kind][0](self._stage, step.choice))
        if not isinstance(hit, Hit):
            self.missed.append(step.kind)
            self._stage.scene.say(f"missed:  {step.kind}{f' ({hit})' if hit else ': nothing to hit'}")
            return
        lasts = f" for {step.lasts_s:.1f} s" if hit.heal else ""
        self._stage.scene.say(f"fault {len(self.faults) + 1:3}: {step.kind}{lasts}: {hit.target}")
        self._stage.busy.update(hit.busy)
        over = now if hit.heal is None else None
        self.faults.append(Fault(step.kind, hit, now, produced, effects, now + step.lasts_s, over))

    def _heal(self, fault: Fault) -> None:
        trouble = self._trying(fault.hit.heal or (lambda: None))
        if isinstance(trouble, str):  # an API that is down: tried again at the next tick
            return
        fault.healed_s = self._now()
        self._stage.busy.difference_update(fault.hit.busy)
        self._stage.scene.say(f"         over: {fault.kind}: {fault.hit.target}")

    def _wake_books(self) -> None:
        """A connection that PostgreSQL's restart broke is seen to be broken by its next use."""
        self._stage.scene.books.leader()

    def _trying(self, action: Callable[[], Hit | None]) -> Hit | str | None:
        """What it returns, or in words why it could not."""
        try:
            return action()
        except (*WORLD_ERRORS, KafkaException, ServiceError, DemoError) as error:
            return f"{type(error).__name__}: {error}".splitlines()[0][:160]

    def _now(self) -> float:
        return time.monotonic() - self._began
