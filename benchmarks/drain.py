"""`make bench`: how fast one member drains a topic, as ratios of paired runs.

Every round runs a plain consume-and-commit loop, our member with a function for each record, our member with a function for
each batch, and Airflow's `ConsumeFromTopicOperator`, one after the other, each in a process and a consumer group of its own,
all with the same client settings, batch size and a function that does nothing. A ratio compares two runs of one round, so
that a machine that is slow for a while is slow for both.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import median

from contest.plan import Plan
from scene import PARTITIONS, VALUE_BYTES, fsync, run, scene, services

from airflow_kafka_exactly.runtime.commits import COMMIT_EVERY_S

CONTESTANTS = ("plain", "member_record", "member_batch", "airflow_operator")
Round = dict[str, float]
"""Seconds of each contestant."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument(
        "--batch", type=int, default=1000, help="records in a batch (the default of both operators)"
    )
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="begin no round that would probably not end in time"
    )
    parser.add_argument("--only", nargs="*", choices=CONTESTANTS[1:], default=CONTESTANTS[1:])
    given = parser.parse_args()
    contestants = [name for name in CONTESTANTS if name == "plain" or name in given.only]
    deadline = time.monotonic() + given.minutes * 60
    with services() as addresses, scene(addresses, given.records, given.batch, COMMIT_EVERY_S) as plan:
        print(
            f"{plan.records:,} records of {VALUE_BYTES} bytes in {PARTITIONS} partitions, batches of {plan.batch}, "
            f"{os.cpu_count()} cores, ledger with fsync {fsync(addresses[2])}",
            flush=True,
        )
        rounds = _rounds(plan, contestants, given.repeats, deadline)
    _report(plan, rounds)


def _rounds(plan: Plan, contestants: list[str], repeats: int, deadline: float) -> list[Round]:
    run("plain", plan)  # warms the broker's page cache; not counted
    rounds: list[Round] = []
    for number in range(1, repeats + 1):
        since = time.monotonic()
        rounds.append({name: run(name, plan) for name in contestants})
        rates = "  ".join(f"{name} {plan.records / s:,.0f}/s" for name, s in rounds[-1].items())
        print(f"round {number}: {rates}", flush=True)
        if time.monotonic() + (time.monotonic() - since) > deadline:
            break
    return rounds


def _report(plan: Plan, rounds: list[Round]) -> None:
    """Ratios of drain rates to the plain loop's of the same round: median, lowest and highest."""
    print(f"\n{'':18}{'of plain':>9}  {'lowest to highest':>18}  {'records/s':>10}")
    last = [f"records={plan.records}"]
    for name in rounds[0]:
        ratios = [paired["plain"] / paired[name] for paired in rounds]
        rate = median(plan.records / paired[name] for paired in rounds)
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(f"{name:18}{median(ratios):9.3f}  {spread:>18}  {rate:10,.0f}")
        last.append(f"{name}={median(ratios):.2f}")
    print(f"bench: {' '.join(last)} rounds={len(rounds)}", flush=True)


if __name__ == "__main__":
    main()
