"""What a contender for leadership needs of the world."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_kafka_exactly.ports import Channel, ChannelServer, Clock, Directory, Election, LeaderLedger
from airflow_kafka_exactly.settings import ServiceSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One contender's ports and settings."""

    election: Election
    directory: Directory
    server: ChannelServer
    channel: Channel
    ledger: LeaderLedger
    clock: Clock
    settings: ServiceSettings
