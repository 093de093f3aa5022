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


def of_records(records: Sequence[RawRecord]) -> dict[str, Any]:
    """The payload of records, in arrays. Header names are stored as bytes: text columns refuse a zero byte."""
    headers = [(r.offset, name, value) for r in records for name, value in r.headers]
    return {
        "offsets": [r.offset for r in records],
        "keys": [r.key for r in records],
        "contents": [r.value for r in records],
        "timestamps": [r.timestamp_ms for r in records],
        "header_of": [offset for offset, _, _ in headers],
        "header_names": [name.encode("utf-8", "surrogateescape") for _, name, _ in headers],
        "header_values": [value for _, _, value in headers],
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
