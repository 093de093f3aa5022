"""Exactly-once effects for Kafka records consumed from Apache Airflow.

The public names are imported on first use, so that importing the package (which Airflow does in every process to read
the provider's description) costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "KafkaExactlyOnceOperator": "operators",
    "ConsumeTrigger": "triggers",
    "CoordinatorTrigger": "triggers",
    "evidence_check_dag": "evidence_dag",
    "NotApplied": "errors",
    "Record": "protocol.record",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
