"""A fixed part of `make interleave`: operations of the ledger against each other on the real PostgreSQL, one of them stopped
between any two of its statements."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from interleavings.build import BuildError, functions, instrumented
from interleavings.harness import Run, Stop
from interleavings.operations import OPERATIONS
from interleavings.planted import FAULTS, Fault, Patch
from interleavings.run import ENABLED, Explorer, enabled_pairs
from interleavings.scenes import SCENES

PAIRS, TRIPLES = 400, 60
QUICKLY_CAUGHT = (
    "fold_in_three_statements",
    "epoch_looked_at_without_its_lock",
    "effect_without_the_claim",
    "redo_claimed_twice",
    "claim_waits_with_the_epoch",
)


def test_every_function_with_two_statements_has_a_stop_between_them() -> None:
    built = {name: instrumented(function.text) for name, function in functions().items()}
    assert built["fold"].stops > 5
    assert "interleaving.stop('fold', 1)" in built["fold"].sql
    assert built["note"].stops == 0, "one statement of plain SQL"


def test_a_function_that_cannot_be_read_fails_the_build() -> None:
    head, tail = "create or replace function kafka_exactly.f() returns void as $$ ", " $$ language {};"
    for language, body in (
        ("plpgsql", "begin case when true then null; end case; end"),
        ("plpgsql", "begin perform 1;"),
        ("plperl", "1"),
    ):
        with pytest.raises(BuildError):
            instrumented(head + body + tail.format(language))
    two = instrumented(head + "select 1; select 2" + tail.format("sql"))
    assert two.sql.count("interleaving.stop") == two.stops == 1


def test_every_planted_fault_applies() -> None:
    for fault in FAULTS.values():
        assert fault.texts, fault.name
    with pytest.raises(BuildError):
        assert Fault("nowhere", (Patch("fold", "no such text", ""),)).texts


def test_enough_pairs_are_enabled() -> None:
    pairs, of, _ = enabled_pairs()
    assert pairs >= ENABLED * of


@pytest.fixture(scope="module")
def explorer(postgres: str) -> Iterator[Explorer]:
    explorer = Explorer(postgres)
    yield explorer
    explorer.close()


@pytest.mark.integration
def test_pairs_come_out_like_some_order_in_memory(explorer: Explorer) -> None:
    draw = random.Random(1)
    found: list[str] = []
    for _ in range(PAIRS):
        scene = draw.choice(list(SCENES))
        first, second = draw.choices(explorer.enabled(scene), k=2)
        stop = draw.choice([*explorer.stops(scene, first), Stop()])
        found += explorer.look(scene, [first, second], [stop, Stop()]).violations
    assert not found


@pytest.mark.integration
def test_triples_come_out_like_some_order_in_memory(explorer: Explorer) -> None:
    assert not [text for seed in range(1, TRIPLES + 1) for text in explorer.triple(seed).violations]


@pytest.mark.integration
@pytest.mark.parametrize("other", ["claim_by_b", "raise_doubt", "bury"])
def test_closing_a_life_waits_for_nobody_who_waits_for_it(explorer: Explorer, other: str) -> None:
    """Whoever writes about a life refers to its row, and holds the partition that closing it wants next."""
    close = OPERATIONS["close_a"]
    for stop in explorer.stops("open_claim", close):
        assert not explorer.look("open_claim", [close, OPERATIONS[other]], [stop, Stop()]).violations


@pytest.mark.integration
def test_a_group_is_not_moved_while_its_first_task_joins(explorer: Explorer) -> None:
    join, move = OPERATIONS["open_life_of_a_task"], OPERATIONS["move_group"]
    for first, second in ((join, move), (move, join)):
        for stop in explorer.stops("nobody_at_work", first):
            assert not explorer.look("nobody_at_work", [first, second], [stop, Stop()]).violations


@pytest.mark.integration
@pytest.mark.parametrize(
    ("first", "other"), [("close_a", "claim_by_b"), ("bury", "fence_a"), ("fence_a", "mark_started")]
)
def test_stops_that_are_left_out_come_out_alike(explorer: Explorer, first: str, other: str) -> None:
    """Later in a transaction that bars the other, it is barred in the same place."""
    operations = [OPERATIONS[first], OPERATIONS[other]]
    alike: dict[tuple[int, int], list[Run]] = {}
    for stop in explorer.stops("lease_over", OPERATIONS[first]):
        run = explorer.run("lease_over", operations, [stop, Stop()])
        if run.barred or stop.transaction in alike:
            alike.setdefault(stop.transaction, []).append(run)
    assert max(map(len, alike.values())) > 2
    for runs in alike.values():
        assert all(run == runs[0] for run in runs)
    left_out = explorer.pairs("lease_over", OPERATIONS[first], [OPERATIONS[other]]).alike
    assert left_out == sum(len(runs) - 1 for runs in alike.values())


@pytest.mark.integration
@pytest.mark.parametrize("name", QUICKLY_CAUGHT)
def test_planted_faults_are_caught(explorer: Explorer, name: str) -> None:
    runs, seen = explorer.hunt(FAULTS[name], 400)
    assert seen, f"{name} survived {runs} runs"
