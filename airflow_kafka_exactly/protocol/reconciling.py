"""Reconciling a partition (case 1): for each offset below the committed one, exactly one final outcome in the ledger.

Below the frontier the ledger keeps no row for an applied record: that the frontier has passed is its outcome. So what can be
wrong there is a doubt that is not closed, or an offset with two outcomes; above it, an offset with none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_kafka_exactly.protocol.record import Partition

FINAL = frozenset({"settled", "discarded", "redone", "dead_letter", "no_record", "lost"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of the ledger. `what`: settled, open (an open claim's part that is not applied), doubt, bare doubt (without its
    payload), dead letter (its detail: the doubt it was the end of, if any), or how a doubt was closed."""

    what: str
    number: int
    start: int
    stop: int
    detail: str = ""


def deviations(
    partition: Partition, frontier: int, committed: int, rows: Sequence[Outcome]
) -> Iterator[Mapping[str, Any]]:
    """Each as topic, partition, start, stop, what, pending. `pending`: not final yet, but nothing is lost (a durable doubt)."""

    def deviation(start: int, stop: int, what: str, pending: bool = False) -> Mapping[str, Any]:
        return {
            "topic": partition.topic,
            "partition": partition.number,
            "start": start,
            "stop": stop,
            "what": what,
            "pending": pending,
        }

    for row in rows:
        if row.what in {"doubt", "bare doubt"}:
            durable = row.what == "doubt"
            text = "no outcome yet" if durable else "committed past a doubt without a payload (S2)"
            yield deviation(
                row.start, min(row.stop, committed), f"doubt {row.number} ({row.detail}): {text}", durable
            )
    for start, stop in _uncovered(frontier, committed, rows):
        holder = next(
            (
                f", claim {r.number} is open"
                for r in rows
                if r.what == "open" and r.start < stop and start < r.stop
            ),
            "",
        )
        yield deviation(start, stop, f"committed without an outcome (S2){holder}")
    yield from (deviation(*twice) for twice in _twice(committed, rows))


def _uncovered(frontier: int, committed: int, rows: Iterable[Outcome]) -> Iterator[tuple[int, int]]:
    position = frontier
    known = sorted((r.start, r.stop) for r in rows if r.what in FINAL or r.what in {"doubt", "bare doubt"})
    for start, stop in known:
        if position < min(start, committed):
            yield position, min(start, committed)
        position = max(position, stop)
    if position < committed:
        yield position, committed


def _twice(committed: int, rows: Sequence[Outcome]) -> Iterator[tuple[int, int, str]]:
    """A doubt's own outcome beside another's: redone although a claim had settled it, or a dead letter that was applied."""
    letters = [r for r in rows if r.what == "dead letter"]
    # A member that buries a record of its claim settles it with that claim, and closes the doubt of whoever collided with it.
    with_their_claim = [r for r in letters if not r.detail]
    closed = [
        r
        for r in rows
        if r.what in {"redone", "dead_letter", "discarded"}
        and r.start < committed
        and not (r.what == "dead_letter" and any(b.start in range(r.start, r.stop) for b in with_their_claim))
    ]
    settled = [r for r in rows if r.what == "settled"]
    for row in closed:
        for other in settled if row.what in {"redone", "dead_letter"} else ():
            if row.start < other.stop and other.start < row.stop:
                yield (
                    row.start,
                    row.stop,
                    f"two outcomes: doubt {row.number} {row.what}, claim {other.number} settled",
                )
        for letter in letters if row.what != "dead_letter" else ():
            if letter.start in range(row.start, row.stop):
                yield (
                    letter.start,
                    letter.stop,
                    f"two outcomes: doubt {row.number} {row.what}, dead letter {letter.number}",
                )
