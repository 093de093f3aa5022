"""Foreign text on its way into the ledger: what an exception, a target, a person or a broker said.

Such a text may hold what no database stores as text (a zero byte, half of a surrogate pair, as text made from a record's bytes
does) and may be megabytes long. A write that is refused for it is asked again for ever, so both ledgers pass every foreign text
through here: text that explains something is made storable and short; names and arguments, which must come back as they were,
are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from airflow_kafka_exactly.errors import ConfigurationError

TEXT_CHARACTERS = 2_000
ITEMS = 100
DEPTH = 8
NAME_BYTES = 1_200
"""Of a group or a slot: PostgreSQL's index rows, which hold both, end at 2,704 bytes."""
LARGEST = 2**63 - 1


def storable(text: str, at_most: int = TEXT_CHARACTERS) -> str:
    r"""The text as any database stores it: whole if it is short, else its beginning and how long it was. What cannot be
    stored is shown as an escape (`\x00`, `\udce9`). Idempotent."""
    shown = _escaped(text[: at_most + 1])
    if len(text) <= at_most and len(shown) <= at_most:
        return shown
    said = f"… (cut: {len(text):,} characters)"
    return shown[: at_most - len(said)] + said


def _escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", r"\x00")


def told(error: BaseException) -> str:
    """What an exception says, with its type, storable. One whose own text cannot be made says so."""
    return storable(f"{type(error).__name__}: {_text(error)}")


def storable_json(value: object, depth: int = DEPTH) -> Any:
    """The value as JSON that any database stores: texts storable, numbers that JSON or 64 bits do not hold as text, what is no
    JSON at all as text, at most so many items and levels."""
    match value:
        case str():
            return storable(str.__str__(value))
        case Mapping() if depth:
            return _cut(
                {storable(_text(k)): storable_json(v, depth - 1) for k, v in _first(value.items())}, value
            )
        case list() | tuple() | set() | frozenset() if depth:
            return _cut([storable_json(item, depth - 1) for item in _first(value)], value)
        case _:
            return value if _plain(value) else storable(_text(value))


def _plain(value: object) -> bool:
    whole = isinstance(value, int) and abs(value) <= LARGEST
    return value is None or whole or (isinstance(value, float) and math.isfinite(value))


def _first(items: Collection[Any]) -> list[Any]:
    return [item for item, _ in zip(items, range(ITEMS), strict=False)]


def _cut(kept: Any, of: Collection[Any]) -> Any:
    if len(of) > ITEMS:
        said = f"cut: {len(of):,} items"
        return {**kept, "…": said} if isinstance(kept, dict) else [*kept, said]
    return kept


def _text(value: object) -> str:
    """`str(value)`, which is foreign code and may raise (also for an integer of more than 4,300 digits)."""
    for shown in (str, repr):
        with suppress(Exception):  # whatever it is, what was to be told counts more
            return str.__str__(shown(value))
    return f"a {type(value).__name__} without a text"


def require_name(what: str, name: str) -> None:
    """A name is looked up again, so it is never changed: `ConfigurationError` when the ledger cannot keep it as it is."""
    if name != _escaped(name) or len(name.encode("utf-8", "replace")) > NAME_BYTES:
        raise ConfigurationError(
            f"{what} {storable(name, 100)!r} cannot be kept in the ledger: use at most {NAME_BYTES} bytes of UTF-8, "
            "without a zero byte"
        )


def require_json(what: str, value: object) -> None:
    """Arguments go to a function again, so they are never changed: `ConfigurationError` unless they are JSON that comes back
    as it was."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        held = text == _escaped(text) and r"\u0000" not in text.replace(r"\\", "")
    except (TypeError, ValueError, RecursionError) as exc:
        raise ConfigurationError(f"{what} must be JSON: {told(exc)}") from exc
    if not held:
        raise ConfigurationError(
            f"{what} hold a zero byte or half of a surrogate pair, which the ledger cannot keep"
        )
