"""Everything that a change of leaders needs, put together: a ring, a client, late voters, and a million known ids."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.adapters.channel import GrpcChannel
from airflow_kafka_exactly.adapters.postgres import migrate
from airflow_kafka_exactly.ports import Channel, MemberLedger
from succession.client import Client
from succession.faults import Faults, fresh_for_a_lone_newcomer
from succession.known import KnownIds
from succession.late import LateVoters
from succession.plan import Plan
from succession.ring import Ring, ring


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    faults: Faults
    ring: Ring
    client: Client
    known: KnownIds
    ledger: MemberLedger
    channel: Channel

    def fresh_for_a_lone_newcomer(self) -> int:
        """The last act: nobody votes but who is asked here, and the ring is not what it was."""
        self.client.stop()
        return fresh_for_a_lone_newcomer(self.ring, self.ledger, self.channel, self.known)


@contextlib.contextmanager
def stage(plan: Plan, folder: Path, known_ids: int) -> Iterator[Stage]:
    """`plan.ledger` is a new, empty database. When this yields, a leader's votes are accepted."""
    services = plan.services()
    migrate(services.ledger)
    with (
        wiring.shared_ledger(services.ledger) as ledgers,
        wiring.shared_directory(services.election) as directory,
        ring(folder, plan) as contenders,
    ):
        channel = GrpcChannel(services.channel)
        client = Client(ledgers.member, directory, channel)
        client.start()
        try:
            epoch = client.first_after(0).epoch
            client.known = KnownIds(ledgers.member, epoch, known_ids)
            yield Stage(
                faults=Faults(contenders, client, LateVoters(ledgers.member, channel)),
                ring=contenders,
                client=client,
                known=client.known,
                ledger=ledgers.member,
                channel=channel,
            )
        finally:
            client.stop()
