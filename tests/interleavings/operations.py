"""What an operation is: something that one of the parties of a scene asks of the ledger. A `yield` divides what are transactions
of their own: the ledger in memory is tried with all orders of these.

`of_members.py`, `of_leaders.py` and `of_evidence.py` have them all, by who asks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from interleavings.scenes import Scene

Steps = Generator[None, None, Any]


class EffectFailed(Exception):
    """The function raised in the middle of its effect's transaction."""


@dataclass
class Party:
    """What an operation is done with: a ledger, the scene, and the world in which effects happen."""

    ledger: Any
    scene: Scene
    happened: set[tuple[int, int]]
    pause: Callable[[str], None] = lambda _: None
    """Called in the middle of an effect's transaction."""
    later: list[Callable[[], Any]] = field(default_factory=list)
    """What the ledger in memory leaves for a step of its own: the payload of a claim's doubts."""

    def fail_if(self, fails: bool) -> None:
        if fails:
            raise EffectFailed


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    steps: Callable[[Party], Steps]
    enabled: Callable[[Scene], bool]


OPERATIONS: dict[str, Operation] = {}

RUN = frozenset(
    {"run_the_rest", "effect", "last_effect", "failed_effect", "mark_applied", "raise_doubt", "bury"}
)
END = frozenset({"give_back", "close_a", "raise_doubt", "bury", "run_the_rest", "effect", "last_effect"})
"""A life does one of these with its claim at a time. The ledger must stay consistent when it does not, but then what has
happened in the world is nobody's promise."""


def contradict(operations: Sequence[Operation]) -> bool:
    names = [o.name for o in operations]
    return any(
        one in RUN and other in END for i, one in enumerate(names) for j, other in enumerate(names) if i != j
    )


def operation(
    enabled: Callable[[Scene], bool] = lambda _: True,
) -> Callable[[Callable[[Party], Steps]], Callable[[Party], Steps]]:
    def register(steps: Callable[[Party], Steps]) -> Callable[[Party], Steps]:
        OPERATIONS[steps.__name__] = Operation(steps.__name__, steps, enabled)
        return steps

    return register


def holds(scene: Scene) -> bool:
    return scene.claim is not None and not scene.in_flight


def runs(scene: Scene) -> bool:
    """Its life goes on with the claim. (What has ended a claim has stopped running it before: only marks may still be on the
    way.)"""
    return holds(scene) and not scene.ended


class Frontiers(dict[int, int]):
    """An answer's frontiers are looked at by themselves (`rules`): one that lags is safe, one that runs ahead is not."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frontiers)

    __hash__ = None  # type: ignore[assignment]
