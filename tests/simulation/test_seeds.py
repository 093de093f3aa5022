"""Seeds that found a fault once. What a seed draws changes with the simulator, so the faults themselves have named tests of their
own; these keep looking where something was found."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.plan import draw
from simulation.run import Run

FOUND: dict[int, tuple[str, dict[str, object]]] = {
    901370: ("a copy of a claim came late and was granted to a life that did not know of it", {}),
    910515: ("a rotation of the filter that was loaded meanwhile forgot its own eve", {}),
    916733: ("a ballot that took longer than a rotation was forgotten", {}),
    916275: ("a poll read the new topic's log for the old topic's partition", {"recreates": True}),
    7810099: (
        "a longer unit was buried for what a shorter one that began with the same record had failed before",
        {},
    ),
    7820275: ("a doubt that was ruled to be redone was buried for its earlier tries, without a new one", {}),
    376: ("the broker in memory did not tell the end of a partition again that had left and come back", {}),
}


@pytest.mark.parametrize("seed", FOUND)
def test_a_seed_that_found_a_fault_stays_clean(seed: int) -> None:
    why, setup = FOUND[seed]
    result = Run(replace(draw(seed), **setup)).go()  # type: ignore[arg-type]
    assert result.violation == "", why
    assert result.effects
