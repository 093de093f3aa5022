"""Records whose headers the client cannot read.

Kafka allows any bytes as a header's name, the client only UTF-8. Such a record has never begun, so it becomes a dead letter with
what could be read of it. Until then it carries one header that says why, so that this is known wherever its payload went.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from airflow_kafka_exactly.protocol.record import Headers, RawRecord

NAME: Final = "kafka-exactly: the headers could not be read"


def headers_of(why: object) -> Headers:
    return ((NAME, str(why).encode("utf-8", "replace")),)


def why_unreadable(record: RawRecord) -> str | None:
    """None: it was read as it is."""
    if not record.headers or record.headers[0][0] != NAME:
        return None
    return f"{NAME}: {(record.headers[0][1] or b'').decode('utf-8', 'replace')}"


def readable_together(records: Sequence[RawRecord]) -> int:
    """How many records may be in one batch: one that cannot be read is alone, so that nobody is judged together with it."""
    for count, record in enumerate(records):
        if record.headers and record.headers[0][0] == NAME:
            return max(count, 1)
    return len(records)
