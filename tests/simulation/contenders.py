"""Contenders for leadership, each in a process of its own that comes back after a while."""

from __future__ import annotations

from typing import Any

import numpy as np
from simulation import threads
from simulation.kernel import Process
from simulation.network import SimulatedChannel
from simulation.points import Wire
from simulation.world import GROUP, World
from simulation.zookeeper import SimulatedDirectory, SimulatedElection

from airflow_kafka_exactly.errors import NotLeading
from airflow_kafka_exactly.protocol.votes import Ballot, BallotAnswer, Vote
from airflow_kafka_exactly.runtime.coordinator import Coordinator


class SimulatedCoordinator(Coordinator):
    """Its events are made when its class is, so that they are replaced here."""

    world: World

    def __post_init__(self) -> None:
        self._stopping, self._wake, self._wake_drain = threads.Event(), threads.Event(), threads.Event()
        super().__post_init__()


class Contender:
    def __init__(self, world: World, name: str) -> None:
        self._world, self.name = world, name
        self.process: Process | None = None
        self.election: SimulatedElection | None = None
        self.coordinator: SimulatedCoordinator | None = None

    def start(self) -> None:
        self._world.kernel.spawn(self._world.kernel.world, f"host {self.name}", self._forever)

    def _forever(self) -> None:
        kernel = self._world.kernel
        while True:
            process = self.process = self._world.process(self.name)
            _, over = self._world.start(process, "main", lambda: self._main(self.process))
            over.wait()
            kernel.park(kernel.chance.uniform(0.5, 4.0))

    def _main(self, process: Process | None) -> None:
        assert process is not None
        made = self.coordinator = self._make(process)
        made.start()
        self._world.trace(process.name, f"contends as {made.state().address}")
        threads.Event().wait()

    def _make(self, process: Process) -> SimulatedCoordinator:
        world, points = self._world, self._world.points
        self.election = SimulatedElection(world.zookeeper, process)
        admin: Any = Wire(points, process, "kafka", world.broker.admin())
        server = world.network.server(process)
        channel: Any = SimulatedChannel(world.network, process)
        ledger: Any = Wire(points, process, "ledger", world.ledger.leader)
        made = SimulatedCoordinator(
            election=self.election,
            directory=SimulatedDirectory(world.zookeeper, process),
            server=server,
            channel=channel,
            ledger=ledger,
            admins=lambda group: admin if group == GROUP else None,
            clock=process,
            settings=world.services,
        )
        self._watch_votes(made)
        return made

    def _watch_votes(self, made: SimulatedCoordinator) -> None:
        """S6 is looked at where a vote leaves its leader."""
        leading, vote = made._leading, made._leading.vote

        def at_random(ballot: Ballot) -> BallotAnswer:
            """Any vote is safe."""
            leading.must_lead()
            if not leading.epoch:
                raise NotLeading("not in office")
            chance = self._world.chance
            votes = [[chance.randrange(len(Vote)) for _ in part.offsets] for part in ballot.parts]
            return BallotAnswer(leading.epoch, tuple(np.array(v, dtype=np.uint8) for v in votes))

        def watched(ballot: Ballot) -> BallotAnswer:
            answer = vote(ballot)
            self._world.checks.led(self.election, self._world.zookeeper.contenders)
            self._world.checks.voted(made.clock, leading._leader, ballot.life.group_id, answer.epoch)
            return answer

        oracle = self._world.plan.mode == "oracle"
        leading.vote = at_random if oracle else watched  # type: ignore[method-assign]
