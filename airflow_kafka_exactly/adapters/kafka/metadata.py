"""The note kept in the metadata of each offset commit: `kx1 claim=<newest claim below the offset> topic=<topic id>`.

The claim number proves to a ledger that has forgotten things that it has (H8). The topic id tells an offset of a deleted topic
from one of its successor, since Kafka itself goes by name. A committed offset without the note was written by somebody else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"kx1 claim=(?P<claim>[0-9]{1,18})(?![0-9])(?: topic=(?P<topic>\S+))?")


@dataclass(frozen=True, slots=True)
class Note:
    claim: int
    topic_id: str
    """Empty when the note names none."""


def write(claim: int, topic_id: str) -> str:
    return f"kx1 claim={claim} topic={topic_id}"


def read(metadata: str | None) -> Note | None:
    """None for metadata that this package did not write."""
    found = _FORM.match(metadata or "")
    return Note(int(found["claim"]), found["topic"] or "") if found else None
