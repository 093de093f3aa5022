"""What calls say, in a transcript's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Words = Callable[[tuple[Any, ...], Any], str]


def claim(args: tuple[Any, ...], result: Any) -> str:
    asked = " ".join(f"{part.partition}{part.batch.range}" for part in args[0].parts)
    said = [f"granted {c.claim_id}: {c.partition}{c.range}" for c in result.granted]
    said += [f"settled {p}{r}" for p, ranges in result.settled.items() for r in ranges]
    said += [f"doubted {p}{r}" for p, ranges in result.doubted.items() for r in ranges]
    return (
        f"{asked} by life {args[0].life.incarnation}, epoch {args[0].epoch} → {', '.join(said) or 'nothing'}"
    )


def redos(_: tuple[Any, ...], result: Any) -> str:
    return ", ".join(
        f"doubt {r.claim.doubt_id} as claim {r.claim.claim_id}: {r.claim.partition}{r.claim.range}"
        for r in result
    )


def mark(args: tuple[Any, ...], result: Any) -> str:
    return (
        ", ".join(f"claim {m.claim_id} started {m.started} applied {m.applied}" for m in args[1])
        + f" → {_offsets(result)}"
    )


def cut(args: tuple[Any, ...], result: Any) -> str:
    _, of, records, stop = args[:4]
    return f"claim {of.claim_id} [{records[0].offset}, {stop}) → frontier {result}"


def commit(args: tuple[Any, ...], result: Any) -> str:
    return ", ".join(f"{p}={offset} {result[p][0]}" for p, (offset, _) in args[0].items())


def decision(args: tuple[Any, ...], result: Any) -> str:
    given = args[0]
    return f"doubt {given.doubt_id} version {given.version}: {given.verdict} by {given.by}" + (
        "" if result else ", a no-op"
    )


def _offsets(of: Mapping[Any, int]) -> str:
    return ", ".join(f"{p}={offset}" for p, offset in sorted(of.items())) or "nothing"


WORDS: Mapping[str, Words] = {
    "ledger.open_life": lambda args, life: f"life {life.incarnation}, a {args[0].kind}",
    "ledger.open_partitions": lambda _, starts: _offsets(starts),
    "ledger.claim": claim,
    "ledger.claim_released": redos,
    "ledger.mark": mark,
    "ledger.give_back": lambda args, _: f"claim {args[1]} from {args[2]}",
    "ledger.raise_doubt": cut,
    "ledger.bury": cut,
    "ledger.committed": lambda args, _: _offsets(args[1]),
    "ledger.refused": lambda args, _: f"{_offsets(args[1])}: {args[2]}",
    "ledger.raise_epoch": lambda _, epoch: f"to {epoch}",
    "ledger.effect_begin": lambda args, _: f"claim {args[0]} up to {args[1]}",
    "ledger.effect_commit": lambda args, _: f"claim {args[0]} up to {args[1]}",
    "ledger.fence": lambda args, done: (
        f"life {args[1].incarnation} of {args[1].slot}: {'done' if done else 'refused'}"
    ),
    "ledger.announce": lambda _, facts: ", ".join(
        f"doubt {f.doubt_id} at {f.partition} {f.range.start}" for f in facts
    ),
    "ledger.decide": decision,
    "ledger.read_back": lambda args, reopened: (
        _offsets(args[2]) + (f", {len(reopened)} open again" if reopened else "")
    ),
    "kafka.commit": commit,
    "kafka.alter": lambda args, _: _offsets(args[1]),
}
