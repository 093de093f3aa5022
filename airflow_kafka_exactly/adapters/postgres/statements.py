"""Named statements: each `.sql` file of `statements/` holds some, each below a line `-- name: …`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_SCHEMA = re.compile(r"\bkafka_exactly\b")


def in_schema(sql: str, schema: str) -> bytes:
    """The SQL with the configured schema's name in place of `kafka_exactly`, quoted: it may be a word of SQL's own."""
    return _SCHEMA.sub(f'"{schema}"', sql).encode()


@cache
def statements(file: str, schema: str) -> Mapping[str, str]:
    """The statements of one file, by name."""
    text = resources.files(__package__).joinpath("statements", f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(in_schema(text, schema).decode())
    return {name: sql.strip() for name, sql in zip(parts[1::2], parts[2::2], strict=True)}
