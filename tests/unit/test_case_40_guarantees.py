"""Case 40: the guarantees page lists what is not covered, and every proof can be rerun with one command."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()
TESTING = (ROOT / "docs" / "testing.md").read_text()
PROOFS = ("test", "demo", "simulate", "mutants", "chaos", "failover")

NOT_COVERED = {
    "What (c) assumes about time": (
        "frozen as a whole",
        "that the target carries out later",
        "step of the ledger's clock",
        "goes on after it returned",
    ),
    "What is assumed besides": (
        "does not lose acknowledged transactions",
        "Kafka does not lose or reuse offsets",
        "Retention is longer than the longest outage",
        "Nobody else writes",
        "People and policies are believed",
    ),
    "What is not promised": (
        "Delivery exactly once",
        "Order",
        "Duplicates that a producer wrote",
        "Atomicity with anything else",
        "Availability without its services",
    ),
}


def points(title: str) -> str:
    """The section's points (`- **…`), each with what it says."""
    (body,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", GUARANTEES, re.DOTALL | re.MULTILINE)
    return " ".join(" ".join(re.findall(r"^- (.*(?:\n  .*)*)", body, re.MULTILINE)).split())


@pytest.mark.parametrize(("title", "said"), [(t, said) for t, all_ in NOT_COVERED.items() for said in all_])
def test_case_40_the_guarantees_page_lists_what_is_not_covered(title: str, said: str) -> None:
    assert said in points(title)


def targets() -> dict[str, str]:
    """Each target of the Makefile with its recipe."""
    found = re.findall(r"^([a-z]+):[^\n=]*\n((?:\t.*\n?)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize("proof", PROOFS)
def test_case_40_each_proof_is_one_command_that_the_documents_name(proof: str) -> None:
    assert re.search(rf"\bmake {proof}\b", TESTING), f"docs/testing.md does not say how to run `make {proof}`"
    ran = re.findall(r"[\w/]+\.py\b|-m [\w.]+", targets()[proof])
    assert ran, targets()[proof]
    for what in ran:
        module = what.removeprefix("-m ").replace(".", "/") + ".py" if what.startswith("-m ") else what
        here = [ROOT / module, ROOT / "tests" / module]
        assert what == "-m pytest" or any(path.exists() for path in here), f"`make {proof}` runs {what}"


def test_case_40_no_document_names_a_command_that_is_not_there() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = {
        (page.name, command)
        for page in pages
        for command in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)
    }
    assert named
    assert not {(page, command) for page, command in named if command not in targets()}
