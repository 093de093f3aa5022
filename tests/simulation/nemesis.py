"""What goes wrong beside the calls of ports: cuts, crashes, freezes, expired sessions, rebalances, second copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simulation.airflow import Slot
from simulation.contenders import Contender
from simulation.kernel import Process
from simulation.people import Evidence
from simulation.world import GROUP, TOPIC, World

from airflow_kafka_exactly.protocol.claims import CommitCode, DoubtState

PARTITIONS_AT_MOST = 5


class Nemesis:
    def __init__(
        self, world: World, slots: Sequence[Slot], contenders: Sequence[Contender], evidence: Evidence
    ) -> None:
        self._world, self._slots, self._contenders, self._evidence = world, slots, contenders, evidence
        self._acts: list[Callable[[], str]] = [
            self._crash_member,
            self._crash_contender,
            self._freeze_member,
            self._freeze_contender,
            self._cut,
            self._cut,
            self._expire_zookeeper,
            self._expire_kafka,
            self._rebalance,
            self._refuse_commits,
            self._second_copy,
            self._second_run,
            self._old_verdict,
            self._pause_slot,
            self._stop_member,
            self._stop_member,
            self._time_out_member,
            self._hold_transaction,
            self._recreate_topic,
        ]
        if world.plan.recreates:
            self._acts += [self._recreate_topic] * 2
        self.healed_at: float | None = None

    def start(self) -> None:
        every_s = self._world.plan.rates.nemesis_every_s
        if every_s < float("inf"):
            self._world.kernel.spawn(self._world.kernel.world, "nemesis", lambda: self._forever(every_s))

    def heal(self) -> None:
        world = self._world
        self.healed_at = world.kernel.now
        world.faults.heal_all()
        world.functions.healed = True
        world.broker.up = True
        world.broker.group(GROUP).refusals.clear()
        if not world.has_topic():
            world.broker.create_topic(TOPIC, world.plan.partitions)
        for log in world.broker.topic(TOPIC).logs:
            log.held_at = None
        for slot in self._slots:
            slot.paused_until = 0.0
        for process in world.processes:
            process.frozen_until = min(process.frozen_until, world.kernel.now)

    def _recreate_topic(self) -> str:
        """Its name then means another topic, which may have fewer partitions; what the old one left unsettled is gone."""
        world = self._world
        if not world.has_topic():
            return ""
        world.broker.delete_topic(TOPIC)
        partitions = world.chance.randint(1, world.plan.partitions)

        def create() -> None:
            if not world.has_topic():
                world.broker.create_topic(TOPIC, partitions)
                for number in range(world.plan.records // 2):
                    world.broker.produce(TOPIC, b"again", number=number % partitions)

        world.kernel.at(world.chance.choice((0.0, 0.0, 1.5)), create)
        return "deletes the topic and makes another one of its name"

    def _forever(self, every_s: float) -> None:
        world = self._world
        while not world.faults.healed:
            world.kernel.park(world.chance.expovariate(1 / every_s))
            if world.faults.healed:
                return
            act = world.chance.choice(self._acts)
            said = act()
            if said:
                world.faults.note(act.__name__.strip("_"))
                world.trace("nemesis", said)

    # -- whom it hits --------------------------------------------------------------------------------------------------

    def _members(self) -> list[Process]:
        return [p for slot in self._slots for p in slot.running if p.alive]

    def _hosts(self) -> list[Process]:
        return [c.process for c in self._contenders if c.process is not None and c.process.alive]

    def _one(self, of: Sequence[Process]) -> Process | None:
        return self._world.chance.choice(of) if of else None

    # -- what it does --------------------------------------------------------------------------------------------------

    def _crash_member(self) -> str:
        return self._crash(self._members())

    def _crash_contender(self) -> str:
        return self._crash(self._hosts())

    def _crash(self, of: Sequence[Process]) -> str:
        victim = self._one(of)
        if victim is None:
            return ""
        self._world.crash(victim, "the nemesis")
        return f"crashes {victim.name}"

    def _freeze_member(self) -> str:
        return self._freeze(self._members())

    def _freeze_contender(self) -> str:
        return self._freeze(self._hosts())

    def _freeze(self, of: Sequence[Process]) -> str:
        victim = self._one(of)
        if victim is None:
            return ""
        seconds = self._world.chance.choice((0.5, 2.0, 6.0, 12.0))
        self._world.points.freeze(victim, seconds)
        return f"freezes {victim.name} for {seconds:.1f} s"

    def _cut(self) -> str:
        """Anyone from a service, or a process from another."""
        everyone = self._members() + self._hosts()
        one = self._one(everyone)
        if one is None:
            return ""
        other = self._world.chance.choice(["ledger", "kafka", "zookeeper", *(p.name for p in self._hosts())])
        seconds = self._world.chance.choice((0.5, 2.0, 5.0, 10.0))
        self._world.faults.cut(one.name, other)
        self._world.kernel.at(seconds, lambda: self._world.faults.heal(one.name, other))
        return f"cuts {one.name} off {other} for {seconds:.1f} s"

    def _expire_zookeeper(self) -> str:
        contenders = self._world.zookeeper.contenders
        if not contenders:
            return ""
        victim = self._world.chance.choice(contenders)
        self._world.zookeeper.expire(victim)
        return f"expires the ZooKeeper session of {victim.process.name}"

    def _expire_kafka(self) -> str:
        members = sorted(self._world.broker.group(GROUP).members)
        if not members:
            return ""
        slot = self._world.chance.choice(members)
        self._world.broker.expire(GROUP, slot)
        return f"expires the Kafka session of {slot}"

    def _rebalance(self) -> str:
        """By a new partition."""
        logs = self._world.broker.topic(TOPIC).logs if self._world.has_topic() else []
        if 0 < len(logs) < PARTITIONS_AT_MOST:
            self._world.broker.add_partitions(TOPIC, len(logs) + 1)
            return f"adds partition {len(logs) - 1}"
        return ""

    def _refuse_commits(self) -> str:
        code = self._world.chance.choice((CommitCode.ORPHAN, CommitCode.RETRY, CommitCode.FATAL))
        self._world.broker.refuse_commits(
            GROUP, f"SIMULATED_{code.name}", self._world.chance.randint(1, 3), code
        )
        return f"lets Kafka refuse offset commits: {code}"

    def _second_copy(self) -> str:
        slot = self._world.chance.choice(self._slots)
        if not slot.running or len(slot.running) > 2:
            return ""
        slot.second_copy()
        return f"runs a second copy of {slot.name}"

    def _second_run(self) -> str:
        self._world.kernel.spawn(self._world.kernel.world, "sweep", self._evidence.sweep)
        return "runs an evidence check over everything"

    def _old_verdict(self) -> str:
        """A task of an evidence run that was cleared writes its verdict again, if possible when its doubt is open again."""
        world, state = self._world, self._world.ledger.state
        reopened = [
            old
            for old in world.decisions
            if (doubt := state.doubt(old.doubt_id))
            and doubt.state is DoubtState.OPEN
            and doubt.version != old.version
        ]
        if not (reopened or world.decisions):
            return ""
        old = world.chance.choice(reopened or world.decisions)
        self._evidence.write(old)
        return f"writes the verdict on version {old.version} of doubt {old.doubt_id} again"

    def _stop_member(self) -> str:
        slot = self._world.chance.choice(self._slots)
        return f"asks {slot.name} to end" if slot.stop() else ""

    def _time_out_member(self) -> str:
        slot = self._world.chance.choice(self._slots)
        return f"lets the execution_timeout of {slot.name} pass" if slot.time_out() else ""

    def _pause_slot(self) -> str:
        """Its process ends and nobody starts another for a while: the group may become empty."""
        slot = self._world.chance.choice(self._slots)
        slot.paused_until = self._world.kernel.now + self._world.chance.choice((5.0, 15.0))
        for process in [p for p in slot.running if p.alive]:
            self._world.crash(process, "its DAG is paused")
        return f"pauses {slot.name}"

    def _hold_transaction(self) -> str:
        """Nobody reads what is behind an open transaction."""
        if not self._world.has_topic():
            return ""
        log = self._world.chance.choice(self._world.broker.topic(TOPIC).logs)
        if log.held_at is not None:
            return ""
        log.held_at = log.end

        def end() -> None:
            if log.held_at is not None:
                log.held_at = None
                log.gap(1)
                with self._world.broker.news:
                    self._world.broker.news.notify_all()

        self._world.kernel.at(self._world.chance.uniform(0.5, 5.0), end)
        return "begins a transaction"
