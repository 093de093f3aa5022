"""Foreign text on its way into the ledger: storable, short, whole when it is short, and said when it was cut."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_kafka_exactly.protocol.storable import TEXT_CHARACTERS, storable, storable_json, told

ANY_TEXT = st.text(st.characters(exclude_categories=()))
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner) | st.tuples(inner),
)


def keepable(text: str) -> bool:
    return "\x00" not in text and text.encode("utf-8", "replace").decode() == text


@given(ANY_TEXT)
def test_any_text_becomes_storable_and_stays_so(text: str) -> None:
    kept = storable(text)
    assert keepable(kept)
    assert storable(kept) == kept
    if keepable(text):
        assert kept == text


@given(ANY_TEXT, st.integers(60, 80))
def test_a_text_that_is_cut_says_how_long_it_was(text: str, at_most: int) -> None:
    long = text + "\x00é" * 100
    kept = storable(long, at_most)
    assert len(kept) <= at_most
    assert kept.endswith(f"… (cut: {len(long):,} characters)")
    assert keepable(kept)


@given(ANY_JSON)
def test_any_value_becomes_json_that_is_storable(value: Any) -> None:
    kept = json.dumps(storable_json(value), allow_nan=False, ensure_ascii=False)
    assert keepable(kept)
    assert json.loads(kept) == storable_json(json.loads(kept))


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


class Mute(Silent):
    __repr__ = Silent.__str__


def test_an_exception_whose_text_cannot_be_made_is_told_nevertheless() -> None:
    assert told(Silent("x")) == "Silent: Silent('x')"
    assert told(Mute()) == "Mute: a Mute without a text"
    assert told(ValueError()) == "ValueError: "
    assert told(ValueError("\x00" * 5000)).startswith(r"ValueError: \x00")
    assert len(told(ValueError("\x00" * 5000))) == TEXT_CHARACTERS
