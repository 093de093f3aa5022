"""Between the ledger's rows and our values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from psycopg.types.json import Jsonb

from airflow_kafka_exactly.protocol.claims import CheckReference, Life
from airflow_kafka_exactly.protocol.record import Partition, RawRecord


def of_life(life: Life) -> dict[str, Any]:
    """The parameters that name a life in every statement."""
    return {"group": life.group_id, "slot": life.slot, "incarnation": life.incarnation}


def of_record(record: RawRecord) -> dict[str, Any]:
    """A record's payload. Header names are stored as bytes: text columns refuse a zero byte."""
    return {
        "offset": record.offset,
        "key": record.key,
        "value": record.value,
        "names": [name.encode("utf-8", "surrogateescape") for name, _ in record.headers],
        "values": [value for _, value in record.headers],
        "timestamp_ms": record.timestamp_ms,
    }


def to_record(row: Sequence[Any]) -> RawRecord:
    """From `(record_offset, key, value, header_names, header_values, timestamp_ms)`."""
    offset, key, value, names, values, timestamp_ms = row
    headers = tuple((n.decode("utf-8", "surrogateescape"), v) for n, v in zip(names, values, strict=True))
    return RawRecord(offset, key, value, headers, timestamp_ms)


def of_offsets(offsets: Mapping[Partition, int]) -> Jsonb:
    return Jsonb(
        [{"topic_id": p.topic_id, "number": p.number, "offset": offset} for p, offset in offsets.items()]
    )


def of_check(check: CheckReference) -> Jsonb:
    """`args` and `kwargs` must be JSON; the shell sees to that."""
    return Jsonb(asdict(check))


def to_check(stored: Any) -> CheckReference:
    fields = json.loads(stored) if isinstance(stored, str) else dict(stored or {})
    known = {name: fields[name] for name in CheckReference.__slots__ if name in fields}
    return CheckReference(**{**known, "args": tuple(known.get("args", ()))})
