"""Scripted runs that tell the seed's stories. Each is a `Run` whose faults are a script instead of chance; what is told of it is
compared with the checked-in transcript in `tests/transcripts/`.

    python -m simulation.stories          tell them all and compare
    python -m simulation.stories --write  tell them anew, to be read before they are checked in
"""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from simulation.plan import Choices, Kind, Plan, Rates, draw
from simulation.run import Run
from simulation.world import GROUP, TOPIC

from airflow_kafka_exactly.protocol.claims import CommitCode

FOLDER = Path(__file__).resolve().parents[1] / "transcripts"
Story = Callable[[Run], Iterator[float]]
"""Yields how long to let time pass between its events."""

QUIET = (
    "ledger.renew",
    "ledger.released_count",
    "ledger.overdue",
    "ledger.sweep_orphans",
    "ledger.over",
    "ledger.progress",
    "ledger.frontiers",
    "zookeeper.",
    "kafka.cluster_id",
    "kafka.topics",
    "kafka.instances",
    "kafka.committed",
    "ledger.groups",
    "ledger.facts_of",
    "ledger.payload",
    "ledger.announce",
    "kafka.commit: lost",
    "trying again",
)
STORIES: dict[str, tuple[Story, dict[str, object]]] = {}


def story(**plan: object) -> Callable[[Story], Story]:
    def keep(told: Story) -> Story:
        STORIES[told.__name__] = (told, plan)
        return told

    return keep


class Steady(random.Random):
    """No chance at all: every draw is the middle one, so that a story changes only where it is told differently."""

    def random(self) -> float:
        return 0.5


def plan_of(**changes: object) -> Plan:
    """Nothing goes wrong by chance."""
    calm = replace(
        draw(1, "story"), kind=Kind.CHECKED, slots=1, coordinators=1, partitions=1, records=4, batch=4, produce_for_s=0.0,
        gaps=0.0, raises=0.0, proves=0.0, in_flight=0.0, effect_s=0.05, skew=0.0, triggers=False, recreates=False,
        act_s=1e9, rates=Rates(), window_s=1.0, choices=Choices(), announce_limit=50,
    )  # fmt: skip
    return replace(calm, **changes)  # type: ignore[arg-type]


@story(slots=2, partitions=2, records=3)
def new_node(run: Run) -> Iterator[float]:
    """A second member joins a group that works: partitions move after what is in hand, nothing runs twice."""
    run.slots[1].paused_until = 5.0
    while not run.slots[1].running:
        yield 0.1
    for number in range(6):
        run._produce_one(10 + number, number % 2)
    yield 8.0


@story(slots=2, records=4)
def dead_node(run: Run) -> Iterator[float]:
    """A member dies in the middle of its claim. Its lease runs out, it is fenced; the check decides about its window, and
    the other member takes over."""
    run.slots[1].paused_until = 1.0
    while len(run.world.target.log) < 2:
        yield 0.02
    run.slots[0].paused_until = 60.0
    run.world.crash(run.slots[0].running[0], "kill -9 after its second effect")
    yield 25.0


@story(coordinators=2, records=4)
def lost_leader_mid_vote(run: Run) -> Iterator[float]:
    """The leader dies with a vote out. The member keeps the records in hand, and asks the next leader (seed rule 13)."""
    while not any("channel.vote" in what for _, _, what in run.world.trace.lines):
        yield 0.002
    for contender in run.contenders:
        election = contender.election
        if election is not None and run.world.zookeeper.contenders[:1] == [election]:
            assert contender.process is not None
            run.world.crash(contender.process, "kill -9 while a vote is out")
            break
    yield 14.0


@story(slots=2, records=4)
def cut_off_member_returns(run: Run) -> Iterator[float]:
    """A member is cut off from everything with a claim in hand. It starts nothing after its trust window; when it comes back,
    it is fenced, and stops."""
    run.slots[1].paused_until = 4.0
    while len(run.world.target.log) < 2:
        yield 0.02
    victim = run.slots[0].running[0]
    run.slots[0].paused_until = 60.0
    run.world.trace("nemesis", f"cuts {victim.name} off everything for 14 s")
    for service in ("ledger", "kafka", "zookeeper", *(c.process.name for c in run.contenders if c.process)):
        run.world.faults.cut(victim.name, service)
    yield 14.0
    run.world.trace("nemesis", f"{victim.name} is connected again")
    run.world.faults.cuts.clear()
    yield 10.0


@story(records=4)
def late_commit(run: Run) -> Iterator[float]:
    """Kafka refuses the offset commit of what is settled: an orphan commit. The member ends, the group is empty, the leader
    alters the offset forward to the frontier."""
    while len(run.world.target.log) < 3:
        yield 0.02
    run.world.broker.refuse_commits(GROUP, "REBALANCE_IN_PROGRESS", 1, CommitCode.ORPHAN)
    while not any("ledger.refused" in what for _, _, what in run.world.trace.lines):
        yield 0.02
    run.slots[0].paused_until = 1e9
    run.world.crash(run.slots[0].running[0], "kill -9")
    yield 20.0


@story(records=4)
def restored_ledger(run: Run) -> Iterator[float]:
    """The ledger is restored from a backup that is older than Kafka's offsets. Their metadata names a claim that this ledger
    never gave (LedgerBehind): nothing more is done until a person has looked."""
    state = run.world.ledger.state
    while not state.lives:
        yield 0.02
    tables = [name for name in vars(state) if name not in ("clock", "lock")]
    backup = copy.deepcopy({name: getattr(state, name) for name in tables})
    while not any("kafka.commit: t[0]=4 accepted" in what for _, _, what in run.world.trace.lines):
        yield 0.02
    run.world.trace("nemesis", "restores the ledger from a backup that was taken before the first claim")
    for name, table in backup.items():
        setattr(state, name, table)
    run.world.checks.forget()
    run.world.crash(run.slots[0].running[0], "kill -9")
    yield 4.0
    run.slots[0].paused_until = 1e9
    yield 10.0
    said = [what for _, _, what in run.world.trace.lines if "LedgerBehind" in what]
    run.expected = f"{len(run.world.target.log)} effects, and nothing after the restore." if said else ""


def tell(name: str) -> str:
    """What happened, without the chatter of idle loops."""
    told, changes = STORIES[name]
    run = Run(plan_of(**changes), chance=Steady())
    text = [
        f"# {' '.join((told.__doc__ or '').split())}",
        f"# topic {TOPIC}, group {GROUP}; {run.plan.kind}",
        "",
    ]
    violation = run.follow(lambda: told(run))
    violation = run.expected or violation
    lines = [line for line in run.world.trace.text() if not any(word in line for word in QUIET)]
    return (
        "\n".join(
            [
                *text,
                *lines,
                "",
                violation or "Every record has had its effect once, and everything is settled.",
            ]
        )
        + "\n"
    )


def main(arguments: list[str]) -> int:
    different = 0
    for name in STORIES:
        path, told = FOLDER / f"{name}.txt", tell(name)
        if "--write" in arguments:
            path.parent.mkdir(exist_ok=True)
            path.write_text(told)
        elif not path.exists() or path.read_text() != told:
            different += 1
            print(f"{path} tells another story")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
