"""The limit of what a member holds is one of memory, whatever the records are like. Measured in a process of its own."""

import subprocess
import sys

import pytest

LIMIT = 16 * 1024 * 1024
MEASURE = """
import os, sys
from airflow_kafka_exactly.ports import Polled
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch, RawRecord
from airflow_kafka_exactly.runtime.polling import Hand

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

limit, key, value, headers, at_once = map(int, sys.argv[1:])
place, hand, n = Partition("id", 0, "topic"), Hand(limit), 0
hand.assigned([place])
before = resident()
while not hand.full:
    records = tuple(
        RawRecord(
            offset,
            os.urandom(key) if key else None,
            os.urandom(value) if value else None,
            tuple((f"name-{i}-{offset}", os.urandom(10)) for i in range(headers)),
            1_700_000_000_000 + offset,
        )
        for offset in range(n, n + at_once)
    )
    n += at_once
    hand.polled(Polled((PartitionBatch(place, OffsetRange(n - at_once, n), records),)))
del records
print(resident() - before)
"""


@pytest.mark.parametrize(
    ("key", "value", "headers", "at_once"),
    [
        (0, 0, 0, 1000),
        (0, 10, 0, 1000),
        (10, 100, 0, 1000),
        (10, 100, 3, 1000),
        (20, 10_000, 0, 10),
        (20, 1_000_000, 0, 1),
    ],
)
def test_what_is_held_takes_at_most_what_the_limit_says(
    key: int, value: int, headers: int, at_once: int
) -> None:
    given = [str(n) for n in (LIMIT, key, value, headers, at_once)]
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, *given], capture_output=True, text=True, check=True, timeout=60
    )
    # The poll that fills it passes as a whole, as does a single record that is larger than the limit.
    last_poll = at_once * (key + value + headers * 200 + 256)
    assert 0.4 * LIMIT < int(ran.stdout) < 1.2 * LIMIT + last_poll
