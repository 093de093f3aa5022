"""One contender: `python -m succession.contender FOLDER`. It resigns at SIGTERM, and writes what it is to `state.json`."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from pathlib import Path

from airflow_kafka_exactly import wiring
from succession.plan import Plan

LOOK_EVERY_S = 0.2
"""A signal interrupts the sleep. More often would cost: a state counts the bits of each filter."""


def main(folder: Path) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # The handler may run while this thread holds any lock: it takes none. (Not blocked instead: threads that libraries started
    # when they were imported would be ended by it.)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    said = ""
    with wiring.coordinator(Plan.read(folder / "plan.json").services()) as contender:
        while not asked:
            time.sleep(LOOK_EVERY_S)
            state = contender.state()
            says = json.dumps(
                {
                    "address": state.address,
                    "leads": state.leads,
                    "epoch": state.epoch,
                    "follows": state.follows,
                }
            )
            if says != said:
                said = says
                (folder / "state.new").write_text(says)
                (folder / "state.new").replace(folder / "state.json")  # whole, or as it was


if __name__ == "__main__":
    main(Path(sys.argv[1]))
