"""A naive reading of what an interleaving left behind, without the ledger's own code: S1, S2, S5, S7 and L2 by what has happened
in the world. (S3, S4, S6 and S8 are in the comparison with the ledger in memory: marks, lives, loaded ids, known offsets.)"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from interleavings.operations import Frontiers
from interleavings.outcome import Outcome
from interleavings.scenes import GAP, LOG


def broken(answers: Sequence[Any], outcome: Outcome) -> list[str]:
    """What is wrong whatever has happened in the world, in words."""
    found = list(_overlaps("claims", outcome["claims"]))
    found += _overlaps("unclosed doubts", [d for d in outcome["doubts"] if d[7] != "closed"])
    reached = {number: frontier for number, frontier, *_ in outcome["places"]}
    for answer in answers:
        for frontiers in (
            x for x in (answer if isinstance(answer, tuple) else (answer,)) if isinstance(x, Frontiers)
        ):
            ahead = {n: f for n, f in frontiers.items() if f > reached[n]}
            found += [f"S2: the frontier {f} was answered, it is {reached[n]}" for n, f in ahead.items()]
    return found


def untrue(outcome: Outcome, happened: frozenset[tuple[int, int]]) -> list[str]:
    """Where the ledger says what is not so, or will let happen again what has happened."""
    found: list[str] = []
    for number, frontier, *_ in outcome["places"]:
        for offset in (o for o in range(LOG) if o != GAP):
            found += _of_record(outcome, number, frontier, offset, (number, offset) in happened)
    return found


def _overlaps(what: str, rows: list[tuple[int, ...]]) -> Iterator[str]:
    spans = sorted(row[:3] for row in rows)
    for one, other in pairwise(spans):
        if one[0] == other[0] and one[2] > other[1]:
            yield f"S5: {what} overlap: {one} and {other}"


def _of_record(outcome: Outcome, number: int, frontier: int, offset: int, happened: bool) -> Iterator[str]:
    claim = next((c for c in outcome["claims"] if c[0] == number and c[1] <= offset < c[2]), None)
    doubt = next((d for d in outcome["doubts"] if d[0] == number and d[1] <= offset < d[2]), None)
    buried = (number, offset) in outcome["letters"]
    state = doubt[7] if doubt else ""
    applied = claim is not None and not claim[8] and offset < claim[4]
    if state in ("open", "released", "claimed"):
        settled = False
        if offset < frontier and not doubt[8][0]:
            yield f"S2: the frontier {frontier} has passed {offset}, a doubt without payload"
    else:
        settled = offset < frontier or applied or state == "closed"
    name = f"{number}/{offset}"
    lost = doubt is not None and doubt[9] == "lost"  # given up by a person, and named so
    if settled and not happened and not buried and not lost:
        yield f"L2: {name} is settled, and its effect has never happened ({claim}, {doubt})"
    if happened and not settled:
        if state == "open":
            yield from _open_doubt(name, claim, doubt)
        elif state == "released":
            yield f"S1: {name} is released, and its effect has happened ({doubt})"
        elif claim is None:
            yield f"S1: {name} is free, and its effect has happened"
        elif offset >= claim[3]:
            yield f"S1: {name} is claimed, not started, and its effect has happened ({claim})"


def _open_doubt(name: str, claim: tuple[object, ...] | None, doubt: tuple[object, ...]) -> Iterator[str]:
    """The ledger alone decides doubts from votes and collisions: by a claim over it, or an applied mark that was."""
    settled = bool(doubt[10]) and bool(doubt[10][0])  # type: ignore[index]
    if doubt[6] in ("vote", "collision") and not settled and claim is None:
        yield f"S1: {name} counts as never started, and its effect has happened ({doubt})"
