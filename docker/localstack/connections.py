"""The Airflow connections of the local stack; ``compose.yaml`` gives the same ones, with other hosts."""

import json
from urllib.parse import urlsplit

from localstack.ports import LOOPBACK

#: Airflow's own metadata, the ledger, and the separate database that the demo's effects go to.
METADATA, LEDGER, EFFECTS = "airflow", "ledger", "effects"
#: Known to everybody: the channel listens on loopback only.
CHANNEL_SECRET = "local-stack-channel-secret"


def connections(*, kafka: str, zookeeper: str, ledger: str, effects: str) -> dict[str, str]:
    """Connection id to Airflow's JSON; ``ledger`` and ``effects`` are conninfo URIs."""
    host, _, port = zookeeper.rpartition(":")
    return {
        "kafka_default": _json("kafka", extra={"bootstrap.servers": kafka}),
        "kafka_exactly_ledger": _postgres(ledger),
        "kafka_exactly_zookeeper": _json("generic", host=host, port=int(port)),
        "kafka_exactly_channel": _json("generic", host=LOOPBACK, password=CHANNEL_SECRET),
        "effects": _postgres(effects),
    }


def _postgres(uri: str) -> str:
    parts = urlsplit(uri)
    return _json(
        "postgres",
        host=parts.hostname,
        port=parts.port,
        login=parts.username,
        password=parts.password,
        schema=parts.path.removeprefix("/"),  # Airflow's word for the database
    )


def _json(conn_type: str, **fields: object) -> str:
    return json.dumps({"conn_type": conn_type, **fields})
