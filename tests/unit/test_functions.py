"""Case 18, first part: a function given as a callable or a dotted path is the one that another process finds."""

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from airflow_kafka_exactly.errors import UnknownFunction
from airflow_kafka_exactly.functions import reference_of, resolve
from airflow_kafka_exactly.protocol.claims import CheckReference

DAG_FILE = '''
"""A DAG file: Airflow loads it under a name that no other process knows."""
COUNT = 3
def check(record):
    return record == "expected"
class Bank:
    @staticmethod
    def check(record):
        return "bank"
    def bound(self, record):
        return None
'''


@pytest.fixture
def dag_file(tmp_path: Path) -> Path:
    path = tmp_path / "payments-dag.py"
    path.write_text(DAG_FILE)
    return path


@pytest.fixture
def loaded(dag_file: Path) -> Iterator[ModuleType]:
    """The DAG file as Airflow loads it."""
    name = "unusual_prefix_0123456789abcdef_payments-dag"
    spec = importlib.util.spec_from_file_location(name, dag_file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop(name, None)


def test_case_18_a_callable_of_an_installed_module_is_found_by_name() -> None:
    reference = reference_of(functools.reduce)
    assert reference.path == "_functools:reduce"
    assert resolve(reference) is functools.reduce


@pytest.mark.parametrize("path", ["os.path.join", "os.path:join"])
def test_case_18_a_dotted_path_is_found_by_name(path: str) -> None:
    import os.path

    reference = reference_of(path, "/a/dag.py")
    assert (reference.path, reference.file) == ("os.path:join", "/a/dag.py")
    assert resolve(reference) is os.path.join


def test_case_18_a_function_of_a_dag_file_is_found_by_another_process(
    loaded: ModuleType, dag_file: Path
) -> None:
    reference = reference_of(loaded.check, "somewhere/else.py")
    assert reference.file == str(dag_file)
    del sys.modules[loaded.__name__]  # the other process never loaded it under this name
    found = resolve(reference)
    assert found("expected") is True
    assert found is resolve(reference), "the file is loaded once"


def test_case_18_a_static_method_of_a_dag_file_is_found(loaded: ModuleType) -> None:
    reference = reference_of(loaded.Bank.check)
    del sys.modules[loaded.__name__]
    assert resolve(reference)("x") == "bank"


def test_case_18_a_changed_dag_file_is_loaded_again(loaded: ModuleType, dag_file: Path) -> None:
    import os

    reference = reference_of(loaded.check)
    del sys.modules[loaded.__name__]
    before = resolve(reference)
    dag_file.write_text(DAG_FILE.replace("expected", "other"))
    os.utime(dag_file, ns=(1, 1))
    assert resolve(reference) is not before
    assert resolve(reference)("other") is True


def nested() -> Callable[..., Any]:
    def inner(record: object) -> None: ...

    return inner


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda record: record, "a lambda"),
        (nested(), "inside a function"),
        (functools.partial(print, 1), "partial"),
        ("".join, "another process"),
        ([].append, "another process"),
        (object(), "object"),
        ("no-such-thing", "no dotted path"),
        ("alone", "no dotted path"),
        ("", "no dotted path"),
        ("module:", "no dotted path"),
    ],
)
def test_a_function_that_only_this_process_can_call_is_refused_early(function: Any, words: str) -> None:
    with pytest.raises(UnknownFunction, match=words) as raised:
        reference_of(function)
    assert "dotted path" in str(raised.value)


def test_a_bound_method_is_refused_early(loaded: ModuleType) -> None:
    with pytest.raises(UnknownFunction, match="bound method"):
        reference_of(loaded.Bank().bound)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (
            CheckReference(path="no_such_module_anywhere:check"),
            "there is no module 'no_such_module_anywhere'",
        ),
        (
            CheckReference(path="no_such_module_anywhere:check", file="/no/dag.py"),
            "there is no file '/no/dag.py'",
        ),
        (CheckReference(path="os.path:no_such_function"), "has no 'no_such_function'"),
        (CheckReference(path="os.path:sep"), "is str, not a function"),
    ],
)
def test_an_unknown_function_says_what_was_looked_for(reference: CheckReference, words: str) -> None:
    with pytest.raises(UnknownFunction, match=words):
        resolve(reference)


def test_a_module_that_breaks_is_not_taken_for_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaks_inside.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownFunction, match="cannot be imported: No module named 'not_installed_anywhere'"):
        resolve(CheckReference(path="breaks_inside:check", file=str(tmp_path / "breaks_inside.py")))


def test_a_dag_file_that_breaks_says_how(tmp_path: Path) -> None:
    (tmp_path / "dag.py").write_text("raise RuntimeError('broken')")
    with pytest.raises(UnknownFunction, match="cannot be loaded: RuntimeError: broken"):
        resolve(CheckReference(path="unusual_prefix_x_dag:check", file=str(tmp_path / "dag.py")))
