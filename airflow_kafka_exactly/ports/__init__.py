"""What runtime needs of the world. Each port is split by the place that uses it; all of them are synchronous and may be
called from several threads unless a docstring says otherwise. Adapters raise the errors of `errors.py` and no others.
"""

from airflow_kafka_exactly.ports.channel import (
    Addition,
    Channel,
    ChannelServer,
    FilterSnapshot,
    LeaderHandler,
    LeaderLink,
    StandbyHandler,
    never,
)
from airflow_kafka_exactly.ports.election import (
    Directory,
    Election,
)
from airflow_kafka_exactly.ports.kafka import (
    Consumers,
    GroupConsumer,
    KafkaAdmin,
    Polled,
    RebalanceListener,
    TopicFacts,
)
from airflow_kafka_exactly.ports.ledger import (
    EvidenceLedger,
    KnownIds,
    LeaderLedger,
    MemberLedger,
    OverdueLife,
    ReportLedger,
)
from airflow_kafka_exactly.ports.process import (
    Clock,
    EffectGuard,
)

__all__ = [
    "Addition",
    "Channel",
    "ChannelServer",
    "Clock",
    "Consumers",
    "Directory",
    "EffectGuard",
    "Election",
    "EvidenceLedger",
    "FilterSnapshot",
    "GroupConsumer",
    "KafkaAdmin",
    "KnownIds",
    "LeaderHandler",
    "LeaderLedger",
    "LeaderLink",
    "MemberLedger",
    "OverdueLife",
    "Polled",
    "RebalanceListener",
    "ReportLedger",
    "StandbyHandler",
    "TopicFacts",
    "never",
]
