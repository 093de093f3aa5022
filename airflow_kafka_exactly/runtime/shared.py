"""What the parts of one member share."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from airflow_kafka_exactly.ports import Clock, MemberLedger
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.summary import Summary
from airflow_kafka_exactly.runtime.background import Background
from airflow_kafka_exactly.settings import MemberSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    life: Life
    cluster_id: str
    settings: MemberSettings
    ledger: MemberLedger
    clock: Clock
    background: Background
    summary: Summary
    chance: Callable[[], float] = random.random
    """In [0, 1); spreads what several members would do at once."""
