"""Whether an interleaving came out as it may."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from interleavings.harness import Run
from interleavings.in_memory import Answers, some_order, whole
from interleavings.operations import Operation, contradict
from interleavings.outcome import Outcome
from interleavings.rules import broken, untrue


def violations(scene: str, operations: Sequence[Operation], run: Run) -> list[str]:
    """Of the rules, and of the likeness to some order of the same operations in the ledger in memory."""
    found = [] if _like_some_order(scene, operations, run) else [_nearest(scene, operations, run)]
    if any(str(a).startswith("failed: ") for a in run.answers):
        found.append(f"an operation failed: {run.answers}")
    if run.deadlocks:
        found.append(f"{run.deadlocks} deadlocks")
    if run.starving:
        found.append("S4: something waits while it holds the epoch")
    found += broken(run.answers, run.outcome)
    return found if contradict(operations) else found + untrue(run.outcome, run.happened)


def _like_some_order(scene: str, operations: Sequence[Operation], run: Run) -> bool:
    """Or like one without those that were refused: the ledger may refuse what it could have let through."""
    refused = [i for i, answer in enumerate(run.answers) if str(answer).startswith("refused: ")]
    for count in range(len(refused) + 1):
        for left_out in combinations(refused, count):
            kept = [i for i in range(len(operations)) if i not in left_out]
            wanted = _seen(operations, tuple(run.answers[i] for i in kept), run.outcome)
            some = tuple(operations[i] for i in kept)
            if some_order(scene, some, lambda found, w=wanted: _seen(operations, *found) == w):  # type: ignore[misc]
                return True
    return False


def _seen(operations: Sequence[Operation], answers: Answers, outcome: Outcome) -> tuple[Answers, Outcome]:
    """An announcement leaves out what another transaction holds; the next one is a second later."""
    if any(o.name == "announce" for o in operations):
        doubts = [(*d[:10], d[10][:3] + d[10][4:]) for d in outcome["doubts"]]
        return answers, {**outcome, "doubts": doubts}
    return answers, outcome


def _nearest(scene: str, operations: Sequence[Operation], run: Run) -> str:
    """How it differs from the order that is most like it."""
    return min((_difference(run, *found) for found in whole(scene, tuple(operations))), key=len)


def _difference(run: Run, answers: Answers, outcome: Outcome) -> str:
    said = ["like no order:"]
    if run.answers != answers:
        said.append(f"answers {run.answers} instead of {answers}")
    for name, rows in outcome.items():
        got = run.outcome[name]
        if got != rows and name == "epoch":
            said.append(f"epoch {got} instead of {rows}")
        elif got != rows:
            said.append(
                f"{name} {[r for r in got if r not in rows]} instead of {[r for r in rows if r not in got]}"
            )
    return " ".join(said)
