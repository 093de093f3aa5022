"""What Airflow does: it runs operators and triggers, tries them again, and now and then runs two of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulation.checks import Checks
from simulation.effects import Killed
from simulation.kernel import Process, Task
from simulation.network import SimulatedChannel
from simulation.points import ConsumersWire, MemberLedgerWire, Wire
from simulation.world import TOPIC, World
from simulation.zookeeper import SimulatedDirectory

from airflow_kafka_exactly.errors import KafkaExactlyError
from airflow_kafka_exactly.protocol.claims import LifeKind
from airflow_kafka_exactly.protocol.record import Partition
from airflow_kafka_exactly.protocol.summary import Summary
from airflow_kafka_exactly.runtime.background import Stopped
from airflow_kafka_exactly.runtime.member import Member
from airflow_kafka_exactly.runtime.membership import MemberPorts, Membership
from airflow_kafka_exactly.runtime.until import Ending, Until
from airflow_kafka_exactly.runtime.waiting import await_work

IDLE_S = 1.5


class Guard:
    """The effect guard of one process; the kernel ends a process that goes on after its trust window during an effect."""

    def __init__(self, process: Process, checks: Checks) -> None:
        self._process, self._checks = process, checks

    def trusted_until(self, ends_at: float) -> None:
        self._checks.trusting(self._process, ends_at)
        self._process.trusted_until = ends_at

    def begin(self) -> None:
        self._process.busy = True

    def end(self) -> None:
        self._process.busy = False

    def close(self) -> None:
        self._process.busy = False


class Slot:
    """One operator place, and the task instance that works for it."""

    def __init__(self, world: World, name: str) -> None:
        self._world, self.name = world, name
        self.running: list[Process] = []
        self.memberships: dict[Process, Membership] = {}
        self.main: dict[Process, Task] = {}
        self.kind = LifeKind.WORKER
        self.paused_until = 0.0
        self._deferred: tuple[Until, Mapping[Partition, int]] | None = None
        """What a task that waits in the triggerer goes on with; a retry begins anew."""
        self.ended_at = 0.0
        """When a task last ended because it had reached the end."""

    def start(self) -> None:
        self._world.kernel.spawn(self._world.kernel.world, f"airflow {self.name}", self._forever)

    def stop(self) -> bool:
        """In order, like a task that is cleared or a worker that is asked to end."""
        for process in self.running:
            if process.alive and process in self.memberships:
                stopping = self.memberships[process].background.stopping
                self._world.kernel.spawn(process, "asked to end", stopping.set)
                return True
        return False

    def time_out(self) -> bool:
        """`execution_timeout`: a signal, whose handler raises wherever the main thread is."""
        for process in self.running:
            if process.alive and process in self.memberships and not self.main[process].finished:
                self.main[process].interrupt = Killed("execution_timeout")
                return True
        return False

    def second_copy(self) -> None:
        """Of a worker (or a trigger): Airflow thinks that the first is gone, or an event came twice."""
        self._world.kernel.spawn(self._world.kernel.world, f"airflow {self.name}", self._once)

    def _forever(self) -> None:
        kernel = self._world.kernel
        kernel.park(kernel.chance.uniform(0.0, 3.0))
        while True:
            if not self.running and kernel.now >= self.paused_until:
                self._once()
            kernel.park(kernel.chance.uniform(0.2, 2.0))

    def _once(self) -> None:
        world, kind = self._world, self.kind
        process = world.process(self.name)
        self.running.append(process)
        world.trace(process.name, f"starts as a {kind}")
        self.main[process], over = world.start(process, "main", lambda: self._main(process, kind))
        over.wait()
        self.running.remove(process)

    def _main(self, process: Process, kind: LifeKind) -> None:
        try:
            ports = member_ports(self._world, process)
            until, ends = self._deferred or self._begun(ports)
            if kind is LifeKind.WORKER:
                self._deferred = None
            ending = self._member(process, kind, ports, until)
            self._world.trace(process.name, f"ends: {ending}")
            if ending is Ending.END:
                self._world.checks.ended(process, ends)
                self.ended_at = self._world.kernel.now
            self._deferred = None if ending is Ending.END else (until, ends)
            if self._world.plan.triggers:
                self.kind = LifeKind.TRIGGER if ending is Ending.IDLE else LifeKind.WORKER
        except (KafkaExactlyError, Stopped, Killed) as failure:
            self._world.trace(process.name, f"fails: {type(failure).__name__}: {failure}")
        finally:
            if process.alive:
                process.busy = False

    def _begun(self, ports: MemberPorts) -> tuple[Until, Mapping[Partition, int]]:
        """How a task goes about its end, and the least that has to be done then, seen from outside."""
        world, plan = self._world, self._world.plan
        seen = {}
        if world.has_topic():
            topic = world.broker.topic(TOPIC)
            seen = {topic.partition(n): log.stable for n, log in enumerate(topic.logs)}
        until_end = plan.choices.until_end
        until = Until(
            ends=dict(ports.admin.end_offsets((TOPIC,))) if until_end else {},
            to_end=until_end,
            defer_when_idle_s=IDLE_S if plan.triggers else None,
        )
        return until, seen

    def _member(self, process: Process, kind: LifeKind, ports: MemberPorts, until: Until) -> Ending:
        world = self._world
        membership = Membership(
            ports,
            world.member_settings(self.name),
            kind,
            Summary(),
            check=world.check_reference(),
            leader_timeout_s=30.0,
        )
        self.memberships[process] = membership
        with membership:
            if kind is LifeKind.TRIGGER:
                return await_work(membership, until, 0.0)
            return Member(membership, world.functions.for_process(process), until).run()


def member_ports(world: World, process: Process) -> MemberPorts:
    points = world.points
    kafka = world.member_settings("any").kafka
    consumers: Any = ConsumersWire(points, process, world.broker.consumers(kafka))
    channel: Any = SimulatedChannel(world.network, process)
    return MemberPorts(
        ledger=MemberLedgerWire(points, process, "ledger", world.ledger.member),
        consumers=consumers,
        admin=Wire(points, process, "kafka", world.broker.admin()),
        directory=SimulatedDirectory(world.zookeeper, process),
        channel=channel,
        clock=process,
        guard=Guard(process, world.checks),
        chance=lambda: 0.5,
    )
