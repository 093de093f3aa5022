"""The test build of the ledger's functions: the same `.sql` files, with a stop between any two statements of a function.

A stop is one more statement, `assert interleaving.stop(…)`: unlike `perform` it changes neither FOUND nor ROW_COUNT. Which
statements there are is found by reading the text, so nothing has to be kept in step when a function changes; what cannot be
read fails the build.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

FUNCTIONS = "airflow_kafka_exactly.adapters.postgres"

_FUNCTION = re.compile(
    r"create or replace function kafka_exactly\.(?P<name>\w+).*?\bas (?P<quote>\$\w*\$)(?P<body>.*?)(?P=quote)[^;]*;",
    re.DOTALL,
)
_TOKEN = re.compile(
    r"(?P<skip>\s+|--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"[^\"]*\"|#\w+ \w+)|(?P<word>[a-z_]\w*)|(?P<other>.)",
    re.DOTALL | re.IGNORECASE,
)


class BuildError(Exception):
    """The functions cannot be read, or a stop or a planted fault finds no place in them."""


@dataclass(frozen=True, slots=True)
class Function:
    """One `create or replace function`."""

    file: str
    name: str
    text: str
    body_at: int
    """Where its body begins in `text`."""
    body: str

    @property
    def language(self) -> str:
        found = re.search(r"\blanguage (\w+)", self.text.replace(self.body, ""))
        if found is None:
            raise BuildError(f"{self.name}: no language")
        return found[1]


@cache
def functions() -> Mapping[str, Function]:
    """All of them, by name."""
    found: dict[str, Function] = {}
    folder = resources.files(FUNCTIONS).joinpath("functions")
    for file in sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name):
        text = file.read_text(encoding="utf-8")
        matches = list(_FUNCTION.finditer(text))
        if len(matches) != len(re.findall(r"\bcreate or replace function\b", text)):
            raise BuildError(f"{file.name}: a function that cannot be read")
        for m in matches:
            if m["name"] in found:
                raise BuildError(f"{m['name']} is defined twice")
            found[m["name"]] = Function(file.name, m["name"], m[0], m.start("body") - m.start(), m["body"])
    return found


@dataclass(frozen=True, slots=True)
class Built:
    """A function of the test build."""

    name: str
    sql: str
    stops: int
    idle: frozenset[int]
    """Stops behind which nothing touches the ledger up to the next one: to stop there is to stop at the next."""


def instrumented(text: str) -> Built:
    """The function of `text` with its stops."""
    match = _FUNCTION.fullmatch(text.strip())
    if match is None:
        raise BuildError(f"not one function: {text[:80]}")
    name, body = match["name"], match["body"]
    function = Function("", name, match[0], match.start("body"), body)
    if function.language == "sql":
        places, statements, call = _between(body), len(_between(body)) + 1, "select"
    elif function.language == "plpgsql":
        places, statements = Reader(name, body).places()
        call = "assert"
    else:
        raise BuildError(f"{name}: nobody can stop a function in {function.language}")
    if statements > 1 and len(places) < statements - 1:
        raise BuildError(f"{name}: {statements} statements and {len(places)} stops")
    ends = [*places[1:], len(body)][: len(places)]
    idle = {n for n, (a, b) in enumerate(zip(places, ends, strict=True), 1) if not _touches(body[a:b])}
    for number, at in sorted(enumerate(places, 1), reverse=True):
        body = f"{body[:at]}{call} interleaving.stop('{name}', {number}); {body[at:]}"
    text = function.text[: function.body_at] + body + function.text[function.body_at + len(match["body"]) :]
    return Built(name, text, len(places), frozenset(idle))


def _touches(statement: str) -> bool:
    """Whether what follows a stop may read or write the ledger: a query, or a call of one of its functions."""
    words = {word for kind, word, _ in _tokens(statement) if kind == "word"}
    return bool(
        words
        & (
            {"select", "insert", "update", "delete", "perform", "execute", "exists", "fetch"}
            | set(functions())
        )
    )


def _between(body: str) -> list[int]:
    """Where the second and later statements of a function in plain SQL begin."""
    starts, after = [], False
    for kind, word, at in _tokens(body):
        if after and kind != "skip":
            starts.append(at)
            after = False
        after = after or word == ";"
    return starts


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    for m in _TOKEN.finditer(text):
        yield str(m.lastgroup), m[0].lower(), m.start()


class Reader:
    """Reads the body of a PL/pgSQL function, statement by statement."""

    def __init__(self, name: str, body: str) -> None:
        self._name = name
        self._tokens = [(kind, word, at) for kind, word, at in _tokens(body) if kind != "skip"]
        self._next = 0
        self._places: list[int] = []
        self._statements = 0

    def places(self) -> tuple[list[int], int]:
        """Where to stop: before each statement but the first, and at the end of what may be gone through to the end; and how
        many statements there are."""
        while self._word() != "begin":
            self._next += 1
        self._next += 1
        last = self._block({"end"}, outermost=True)
        if last != "return":
            self._places.append(self._tokens[self._next][2])
        return sorted(self._places), self._statements

    def _word(self, ahead: int = 0) -> str:
        if self._next + ahead >= len(self._tokens):
            raise BuildError(f"{self._name}: the end of the text was not expected")
        return self._tokens[self._next + ahead][1]

    def _block(self, ends: set[str], *, outermost: bool = False) -> str:
        """Statements up to one of `ends`; returns the first word of the last statement."""
        first, last = True, ""
        while self._word() not in ends:
            if not (outermost and first):
                self._places.append(self._tokens[self._next][2])
            first, last = False, self._word()
            self._statement()
        return last

    def _statement(self) -> None:
        self._statements += 1
        match self._word():
            case "if":
                self._if()
            case "for" | "while" | "loop" | "foreach":
                self._up_to("loop")
                self._block({"end"})
                self._up_to(";")
            case "begin":
                self._next += 1
                self._handled()
            case "case" | "declare" | "<":
                raise BuildError(f"{self._name}: no reader for {self._word()!r} statements")
            case _:
                self._up_to(";")

    def _if(self) -> None:
        self._up_to("then")
        self._block({"elsif", "else", "end"})
        while self._word() == "elsif":
            self._up_to("then")
            self._block({"elsif", "else", "end"})
        if self._word() == "else":
            self._next += 1
            self._block({"end"})
        self._up_to(";")

    def _handled(self) -> None:
        self._block({"exception", "end"})
        if self._word() == "exception":
            self._next += 1
            while self._word() == "when":
                self._up_to("then")
                self._block({"when", "end"})
        self._up_to(";")

    def _up_to(self, wanted: str) -> None:
        """Behind the next `wanted` that is in no parenthesis and in no `case … end`."""
        depth = 0
        while True:
            word = self._word()
            self._next += 1
            if not depth and word == wanted:
                return
            depth += (word in ("(", "[", "case")) - (word in (")", "]") or (word == "end" and depth > 0))
