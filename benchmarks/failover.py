"""`make failover RUNS=20`: how long there is no leader after one is killed (SIGKILL), frozen (SIGSTOP, later SIGCONT) or has
resigned (SIGTERM), each so many times, on three ZooKeeper servers, a PostgreSQL and three contenders of our own.

A client votes all the time, as a member does, and claims what it asked about: a vote counts when the ledger grants the claim.
The ledger holds a million ids in open claims of somebody else. The exit status is 1 when a bound is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from localstack import PostgreSQL, ZooKeeper
from succession.faults import Change
from succession.plan import Plan
from succession.result import Result
from succession.stage import stage


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20, help="of each of the three faults")
    parser.add_argument("--ids", type=int, default=1_000_000, help="known to the ledger")
    parser.add_argument("--state", type=Path, help="an empty folder for data and logs, which are kept")
    given = parser.parse_args()
    changes: list[Change] = []
    with (
        _folder(given.state) as folder,
        services(folder) as plan,
        stage(plan, folder, given.ids) as on,
    ):
        for run in range(1, given.runs + 1):
            for fault in (on.faults.kill, on.faults.freeze, on.faults.resign):
                changes.append(fault())
                print(f"run {run}: {changes[-1].fault:7} {changes[-1].seconds:.2f} s", flush=True)
        fresh = on.fresh_for_a_lone_newcomer()
    result = Result(
        changes=changes,
        session_timeout_s=plan.session_timeout_s,
        known_ids=given.ids,
        known_fresh=fresh,
    )
    broken = result.broken()
    for words in broken:
        print(f"broken: {words}")
    print("\n".join(result.lines()), flush=True)
    return 1 if broken else 0


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="kafka-exactly-failover-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextlib.contextmanager
def services(folder: Path) -> Iterator[Plan]:
    """Of our own: nothing else may slow them down."""
    postgres = PostgreSQL(folder)
    ensemble = ZooKeeper.ensemble(folder)
    everything = [postgres, *ensemble]
    try:
        for service in everything:
            service.launch()
        for service in everything:
            service.wait_ready()
        yield Plan(
            zookeeper=",".join(member.address for member in ensemble),
            ledger=postgres.create_database("ledger"),
            root="/failover",
        )
    finally:
        for service in everything:
            service.remove()


if __name__ == "__main__":
    sys.exit(main())
