"""Everything a run consists of, built from its plan: services, processes, and what Airflow does with them."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from simulation.checks import Checks
from simulation.effects import Functions, Target
from simulation.ending import Ending
from simulation.faults import Faults, Script
from simulation.kernel import Kernel, Process, Task
from simulation.network import Network
from simulation.patience import RETRY_DELAY_S
from simulation.plan import Kind, Plan
from simulation.points import ConsumerWire, Points
from simulation.threads import Event
from simulation.verdicts import Verdicts
from simulation.zookeeper import SimulatedZooKeeper

from airflow_kafka_exactly.adapters.memory.broker import MemoryBroker
from airflow_kafka_exactly.adapters.memory.ledger import MemoryLedger
from airflow_kafka_exactly.ports import Polled
from airflow_kafka_exactly.protocol.claims import CheckReference
from airflow_kafka_exactly.settings import (
    ChannelSettings,
    ElectionSettings,
    KafkaSettings,
    LedgerSettings,
    MemberSettings,
    ServiceSettings,
)

GROUP, TOPIC = "g", "t"
ConsumerWire.nothing = Polled(())


class Trace:
    """What happened, line by line; its digest is the same for the same seed."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.lines: list[tuple[float, str, str]] = []
        self.digest = 0

    def __call__(self, who: str, what: str) -> None:
        self.lines.append((self._kernel.now, who, what))

    def sum(self) -> str:
        self.digest = zlib.crc32("\n".join(self.text()).encode(), self.digest)
        return f"{self.digest:08x}"

    def text(self) -> list[str]:
        return [f"{at:9.3f}  {who:<14} {what}" for at, who, what in self.lines]


class World:
    """Made while production's waits are substituted."""

    def __init__(self, plan: Plan, kernel: Kernel, script: Script | None = None) -> None:
        self.plan, self.kernel, self.chance = plan, kernel, kernel.chance
        self.trace = Trace(self.kernel)
        self.faults = Faults(self.chance, plan.rates, script)
        self.points = Points(self.kernel, self.faults, self.trace)
        self.services = _services(plan)
        self.network = Network(self.points, self.services.channel)
        self.zookeeper = SimulatedZooKeeper(self.points, self.services.election)
        self.broker = MemoryBroker()
        self.broker.create_topic(TOPIC, plan.partitions)
        self.ledger = MemoryLedger(self.kernel.world)
        self.target = Target(self.kernel, self.trace)
        self.functions = Functions(plan, self.target, self.points)
        self.verdicts = Verdicts(plan, self.ledger, self.functions)
        self.checks = Checks(self.ledger, self.target, self.broker, self.verdicts)
        self.ending = Ending(plan, self.ledger, self.broker, self.checks)
        self.points.crash, self.points.before, self.points.after = self.crash, self.checks.before, self._after
        self.kernel.on_guard = lambda process: self.crash(process, "the guard: trust ended during an effect")
        self.numbers = 0
        self.decisions: list[Any] = []
        """Every verdict and ruling that was written, or refused."""
        self.processes: list[Process] = []
        self.consumers: dict[Process, Any] = {}

    def has_topic(self) -> bool:
        return TOPIC in self.broker._topics

    # -- processes -----------------------------------------------------------------------------------------------------

    def process(self, name: str) -> Process:
        self.numbers += 1
        skew = self.plan.skew
        made = Process(self.kernel, f"{name}.{self.numbers}", 1.0 + self.chance.uniform(-skew, skew))
        self.processes.append(made)
        script = self.faults.script
        if script is not None and script.process is None and script.name == name:
            script.process = made
        return made

    def crash(self, process: Process, why: str) -> None:
        """At once, like a SIGKILL: nothing of it runs any more."""
        if not process.alive:
            return
        process.alive = False
        self.trace(process.name, f"dies: {why}")
        for act in process.at_death:
            act()

    def start(self, process: Process, name: str, main: Callable[[], None]) -> tuple[Task, Event]:
        """Run `main` in a process; the event is set when it ended or died."""
        over = Event()
        process.at_death.append(over.set)

        def body() -> None:
            try:
                main()
            finally:
                over.set()

        return self.kernel.spawn(process, name, body), over

    # -- the services' own doing ---------------------------------------------------------------------------------------

    def watch_kafka(self) -> None:
        """Sessions of consumers that are not heard end; a place that nobody took over is free. Call it once."""
        now, session_s = self.kernel.now, self.plan.session_s
        for process, (consumer, slot, heard_at) in list(self.consumers.items()):
            member = self.broker.group(GROUP).members.get(slot)
            if member is None or (member.consumer is not consumer and member.consumer is not None):
                del self.consumers[process]
            elif self._kafka_hears(process) and not consumer._closed:
                self.consumers[process] = (consumer, slot, now)
            elif now - heard_at > session_s:
                self.trace("kafka", f"the session of {slot} ({process.name}) ends")
                del self.consumers[process]
                self.broker.expire(GROUP, slot)
        self.kernel.at(1.0, self.watch_kafka)

    def _kafka_hears(self, process: Process) -> bool:
        return process.alive and not process.frozen and self.faults.connected(process.name, "kafka")

    def _after(self, process: Process, what: str, args: tuple[Any, ...], result: Any) -> None:
        if what == "kafka.open":
            self.consumers[process] = (result, args[0], self.kernel.now)
        elif what in ("kafka.commit", "kafka.alter"):
            self.checks.committed(GROUP)
        elif what.startswith("ledger."):
            if what == "ledger.decide":
                self.decisions.append(args[0])
            self.checks.after(process, what, args, result)

    # -- settings ------------------------------------------------------------------------------------------------------

    def member_settings(self, slot: str) -> MemberSettings:
        plan = self.plan
        return MemberSettings(
            slot=slot,
            owner=f"task {slot}",
            kafka=KafkaSettings(
                connection="kafka",
                config={},
                group_id=GROUP,
                topics=(TOPIC,),
                session_timeout_s=plan.session_s,
                prefetch_max_bytes=plan.prefetch_bytes,
            ),
            lease=plan.lease,
            max_batch_records=plan.batch,
            max_batch_wait_s=0.3,
            max_attempts=plan.choices.max_attempts,
            effect_timeout_s=plan.lease.effect_timeout_s,
            window_s=plan.window_s,
            revoke_budget_s=1.0,
            retry_delay_s=RETRY_DELAY_S,
            outage_grace_s=plan.choices.outage_grace_s,
        )

    def check_reference(self) -> CheckReference:
        kind = self.plan.kind
        return CheckReference(
            path="" if kind is Kind.UNCHECKED else "simulated:check",
            batch=kind is Kind.UNIT,
            on_undecidable=self.plan.choices.on_undecidable,
            effect_timeout_s=self.plan.lease.effect_timeout_s,
        )


def _services(plan: Plan) -> ServiceSettings:
    return ServiceSettings(
        ledger=LedgerSettings(connection="ledger", conninfo=""),
        election=ElectionSettings(
            connection="zookeeper", hosts="simulated", session_timeout_s=5.0, trust_s=3.0
        ),
        channel=ChannelSettings(
            connection="channel", secret="a secret of sixteen", call_timeout_s=1.5, standby_ack_timeout_s=0.5
        ),
        lease=plan.lease,
        filter=plan.filter,
    )
