"""The diagrams of docs/protocol.md are what the code draws."""

import diagrams
import pytest

from airflow_kafka_exactly.protocol.leader import Office


def test_the_pages_diagrams_are_what_the_code_draws() -> None:
    page = diagrams.PAGE.read_text()
    assert diagrams.redrawn(page) == page, "run `PYTHONPATH=tests:. python -m diagrams --write`"


@pytest.mark.parametrize("name", diagrams.DIAGRAMS)
def test_each_diagram_is_in_the_page(name: str) -> None:
    assert f"<!-- drawn: {name} -->" in diagrams.PAGE.read_text()


def test_the_way_into_office_is_the_only_one() -> None:
    """S6: nobody opens without having raised the epoch and loaded."""
    into = {(before, after) for before, _, after in diagrams.moves() if after is not Office.OUT}
    assert into == {
        (Office.OUT, Office.RAISING),
        (Office.RAISING, Office.LOADING),
        (Office.LOADING, Office.OPEN),
    }
