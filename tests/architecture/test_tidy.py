"""The numbers and the absences that STYLE asks for, held over everything that is tracked."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "airflow_kafka_exactly"
FILE_LINES, FUNCTION_LINES = 400, 60
# Pure: no I/O, no clock, no randomness, no logging, no threads. What the protocol may import is named, the rest is not.
PROTOCOL_MAY_IMPORT = {
    "__future__", "airflow_kafka_exactly", "collections", "contextlib", "dataclasses", "enum", "functools", "hashlib",
    "itertools", "json", "math", "numpy", "operator", "pybloom_live", "string", "struct", "types", "typing", "uuid",
    "bisect", "heapq", "io",  # io: for BytesIO; `open` is refused below
}  # fmt: skip
# Put together from halves, so that this file does not find itself.
REGISTRY_HOSTS = [f"{name}.{top}" for name, top in (
    ("pypi", "org"), ("pythonhosted", "org"), ("repo.maven.apache", "org"), ("repo1.maven", "org"), ("npmjs", "org"),
    ("registry-1.docker", "io"), ("deb.debian", "org"),
)]  # fmt: skip
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|farm|root|home/\w+|tmp/bash_jobs|opt/akevenv)/")
LOCK_FILES = {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock"}


def tracked() -> list[Path]:
    """All files of the repository; without git (an unpacked archive) there is nothing to hold."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git repository")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def written_modules() -> Iterator[tuple[Path, str]]:
    """The package's files that people wrote."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "_pb2" not in path.name:
            yield path, path.read_text()


def test_no_file_of_the_package_is_longer_than_400_lines() -> None:
    lengths = {path: len(text.splitlines()) for path, text in written_modules()}
    assert {str(path): lines for path, lines in lengths.items() if lines > FILE_LINES} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    long = []
    for path, text in written_modules():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    long.append(f"{path}:{node.lineno} {node.name}: {lines} lines")
    assert long == []


def test_every_module_says_what_it_is() -> None:
    assert [str(path) for path, text in written_modules() if not ast.get_docstring(ast.parse(text))] == []


def test_there_is_no_utils_module() -> None:
    assert [
        str(path)
        for path, _ in written_modules()
        if path.stem in {"utils", "util", "helpers", "common", "misc"}
    ] == []


def test_the_protocol_is_pure() -> None:
    found = {
        (str(path), name)
        for path, text in written_modules()
        if path.is_relative_to(PACKAGE / "protocol")
        for name in imported(ast.parse(text))
        if name not in PROTOCOL_MAY_IMPORT
    }
    assert found == set()


def test_the_protocol_opens_no_file() -> None:
    calls = [
        f"{path}:{node.lineno}"
        for path, text in written_modules()
        if path.is_relative_to(PACKAGE / "protocol")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"open", "io.open", "print", "input", "exec", "eval"}
    ]
    assert calls == []


def test_no_registry_and_no_machine_is_named() -> None:
    found = []
    for path in tracked():
        text = path.read_bytes().decode(errors="replace")
        found += [f"{path}: {host}" for host in REGISTRY_HOSTS if host in text]
        found += [f"{path}: {match.group()}" for match in MACHINE_PATHS.finditer(text)]
    assert found == []


def test_no_lock_file_is_tracked() -> None:
    """They record download addresses; ``constraints.txt`` pins what was tested."""
    assert [path for path in tracked() if path.name in LOCK_FILES] == []


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level names of all imported packages."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_migrations_are_numbered_without_a_gap_or_a_double() -> None:
    """A number that two changes took is run for one of them only."""
    found = sorted(path.name for path in (PACKAGE / "adapters/postgres/migrations").glob("*.sql"))
    assert [name.split("_")[0] for name in found] == [f"{n:03}" for n in range(1, len(found) + 1)]
