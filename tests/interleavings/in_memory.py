"""What may come of some operations: every order of their transactions on the ledger in memory."""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import permutations
from typing import Any

from interleavings.operations import Operation, Party
from interleavings.outcome import Outcome, of_memory
from interleavings.scenes import build
from ledger_stage import MemoryStage

from airflow_kafka_exactly.adapters.memory import ledger_arbiter
from airflow_kafka_exactly.errors import KafkaExactlyError

Answers = tuple[Any, ...]
"""Of each operation; a refusal is the name of its error."""
Found = tuple[Answers, Outcome]
KEPT = 256
"""A pair is looked at with all its stops, one after the other."""


def refusal(exc: KafkaExactlyError) -> str:
    return f"refused: {type(exc).__name__}"


def some_order(scene: str, operations: tuple[Operation, ...], like: Callable[[Found], bool]) -> bool:
    """Whether some order comes out `like` that. Whole operations first: most are one transaction."""
    if any(like(found) for found in whole(scene, operations)):
        return True
    return any(like(found) for found in divided(scene, operations))


def whole(scene: str, operations: tuple[Operation, ...]) -> Iterator[Found]:
    for order in permutations(range(len(operations))):
        yield _one_by_one(scene, operations, order)


@lru_cache(KEPT)
def _one_by_one(scene: str, operations: tuple[Operation, ...], order: tuple[int, ...]) -> Found:
    return _replay(scene, operations, [i for i in order for _ in range(9)])[1:]


@lru_cache(KEPT)
def divided(scene: str, operations: tuple[Operation, ...]) -> list[Found]:
    """Every merge of their transactions."""
    found: list[Found] = []
    for run in _merges(scene, operations, ()):
        if run not in found:
            found.append(run)
    return found


def _merges(scene: str, operations: Sequence[Operation], prefix: tuple[int, ...]) -> Iterator[Found]:
    unfinished, answers, outcome = _replay(scene, operations, prefix)
    if not unfinished:
        yield answers, outcome
    for i in unfinished:
        yield from _merges(scene, operations, (*prefix, i))


def _replay(
    scene: str, operations: Sequence[Operation], schedule: Sequence[int]
) -> tuple[list[int], Answers, Outcome]:
    """Each number of the schedule lets that operation do its next transaction. Also returns which have not ended."""
    stage, begun = pickle.loads(_kept(scene))
    happened = set(begun.happened)
    later: list[Callable[[], Any]] = []
    steps = [o.steps(Party(stage.ledger, begun, happened, later=later)) for o in operations]
    unfinished, answers = list(range(len(steps))), [None] * len(steps)
    with payload_later(later):
        for i in schedule:
            if i not in unfinished:
                continue
            try:
                next(steps[i])
            except StopIteration as end:
                answers[i] = end.value
                unfinished.remove(i)
            except KafkaExactlyError as exc:
                answers[i] = refusal(exc)  # type: ignore[call-overload]
                unfinished.remove(i)
    return unfinished, tuple(answers), of_memory(stage.state)


@cache
def _kept(scene: str) -> bytes:
    """A stage and its scene: to build it takes ten times as long as to copy it."""
    stage, kept = MemoryStage(), io.BytesIO()
    Pickler(kept).dump((stage, build(scene, stage)))
    return kept.getvalue()


class Pickler(pickle.Pickler):
    def reducer_override(self, made: Any) -> Any:
        """A copy of the ledger has a lock of its own."""
        return (threading.RLock, ()) if isinstance(made, type(threading.RLock())) else NotImplemented


class payload_later:  # noqa: N801 - reads as what it does
    """PostgreSQL stores the payload of a claim's doubts in transactions of their own, so here that is a step of its own."""

    def __init__(self, later: list[Callable[[], Any]]) -> None:
        self._later, self._store = later, ledger_arbiter.store_payload

    def __enter__(self) -> None:
        def postponed(state: Any, place: Any, *stored: Any) -> int:
            self._later.append(lambda: self._store(state, place, *stored))
            return int(place.frontier)

        ledger_arbiter.store_payload = postponed

    def __exit__(self, *_: object) -> None:
        ledger_arbiter.store_payload = self._store
