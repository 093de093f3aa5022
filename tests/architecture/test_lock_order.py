"""The order in which the ledger's functions wait for locks (S4), read from their text.

One order: life, partitions, claims, epoch. After the epoch only rows are written that the partition's lock already protects, so
nobody holds it while waiting. What a function calls is read in its place.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "airflow_kafka_exactly/adapters/postgres/functions"
LIFE, PARTITION, CLAIM, EPOCH = range(4)
NAMES = ("life", "partition", "claim", "epoch")
_FUNCTION = re.compile(r"function kafka_exactly\.(\w+)\(.*?as \$\$(.*?)\$\$;?", re.DOTALL)
_COMMENT = re.compile(r"--[^\n]*")
_LOCKING = r"(?:(?!;).)*?for (?:no key )?(?:update|share)\b"
_WAITS = (
    (EPOCH, re.compile(r"pg_advisory_xact_lock(?:_shared)?\(epoch_key\(\)\)")),
    (LIFE, re.compile(r"\bfrom member_life\b" + _LOCKING, re.DOTALL)),
    (PARTITION, re.compile(r"\bfrom partition\b" + _LOCKING, re.DOTALL)),
    (CLAIM, re.compile(r"\bfrom claim\b" + _LOCKING, re.DOTALL)),
)


def functions() -> dict[str, str]:
    found = {}
    for file in sorted(FOLDER.glob("*.sql")):
        for name, body in _FUNCTION.findall(file.read_text(encoding="utf-8")):
            found[name] = _COMMENT.sub("", body)
    return found


FUNCTIONS = functions()
_CALL = re.compile(r"\b(" + "|".join(FUNCTIONS) + r")\(")


def waits(name: str, inside: tuple[str, ...] = ()) -> list[int]:
    """What the function waits for, in the order of its text, calls included."""
    assert name not in inside, f"{name} calls itself"
    body = FUNCTIONS[name]
    found = [(m.start(), [kind]) for kind, pattern in _WAITS for m in pattern.finditer(body)]
    found += [(m.start(), waits(m[1], (*inside, name))) for m in _CALL.finditer(body)]
    return [kind for _, kinds in sorted(found) for kind in kinds]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_s4_locks_are_waited_for_in_one_order_and_nothing_after_the_epoch(name: str) -> None:
    order = waits(name)
    assert order == sorted(order), f"{name}: {', '.join(NAMES[kind] for kind in order)}"


def test_the_functions_are_read_as_they_are_written() -> None:
    assert waits("claim") == [LIFE, PARTITION, EPOCH]
    assert waits("claim_released") == [LIFE, PARTITION, PARTITION, EPOCH]
    assert waits("fence") == [LIFE, PARTITION, CLAIM, EPOCH]
    assert waits("mark")[:1] == [PARTITION]
    guarded = {name for name in FUNCTIONS if EPOCH in waits(name)} - {"require_epoch", "raise_epoch"}
    assert guarded == {
        "claim",
        "claim_released",
        "fence",
        "sweep_orphans",
        "read_back",
        "close_orphan",
        "close_lost_of",
    }


def test_s4_the_order_of_0_1_0_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The epoch first, and then waiting for partitions: one blocked partition kept every new leader out."""
    body = FUNCTIONS["sweep_orphans"].replace("begin", "begin perform require_epoch(p_epoch);", 1)
    monkeypatch.setitem(FUNCTIONS, "sweep_orphans", body)
    assert waits("sweep_orphans") != sorted(waits("sweep_orphans"))
