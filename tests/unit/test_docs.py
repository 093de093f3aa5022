"""The documents against the code: examples run, links lead somewhere, each parameter, option, command and message is there."""

import ast
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "airflow_kafka_exactly"
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
README = (ROOT / "README.md").read_text()

CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@pytest.fixture
def airflow_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow in this process, nothing of the user's is read or written."""
    if "airflow" not in sys.modules:
        for name in [n for n in os.environ if n.startswith(("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_HOME"))]:
            monkeypatch.delenv(name)
        os.environ["AIRFLOW_HOME"] = str(tmp_path)  # Airflow remembers it for the rest of this process
        monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")


# -- examples ----------------------------------------------------------------------------------------------------------


def test_the_readmes_dag_imports_in_airflow_and_is_ten_lines(airflow_home: None, tmp_path: Path) -> None:
    (example,) = EXAMPLE.findall(README)
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    dag_file = tmp_path / "payments.py"
    dag_file.write_text(example)

    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_file)
    assert bag.import_errors == {}
    (task,) = bag.dags["payments"].tasks
    assert (task.task_type, task.topics) == ("KafkaExactlyOnceOperator", ["payments"])


def test_the_readmes_check_tells_whether_its_function_has_run(airflow_home: None, tmp_path: Path) -> None:
    (example,) = EXAMPLE.findall(README)
    example = example.replace("/var/tmp/paid.txt", str(tmp_path / "paid.txt"))
    module = ModuleType("readme_example")
    sys.modules[module.__name__] = module  # the operator looks its check's module up
    try:
        exec(compile(example, "README.md", "exec"), module.__dict__)
        pay, is_paid, record = module.pay, module.is_paid, record_with_id("cluster/topic/0/7/0")
        assert is_paid(record) is False
        pay(record)
        assert is_paid(record) is True
        assert is_paid(record_with_id("cluster/topic/0/70/0")) is False
    finally:
        del sys.modules[module.__name__]


def record_with_id(record_id: str) -> Any:
    from airflow_kafka_exactly import Record
    from airflow_kafka_exactly.protocol.record import FencingToken

    return Record("payments", 0, 7, b"k", b"v", (), 0, record_id, FencingToken(1, 1))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_are_python_and_name_only_parameters_that_exist(page: Path) -> None:
    for example in EXAMPLE.findall(page.read_text()):
        for call in (node for node in ast.walk(ast.parse(example)) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            if name.startswith("KafkaExactlyOnceOperator"):
                given = {keyword.arg for keyword in call.keywords}
                assert given <= operator_parameters() | {"task_id", "retries"}


@pytest.mark.parametrize("page", ["quickstart.md", "howto/deal-with-doubts.md"])
def test_the_evidence_check_examples_make_the_dag(page: str, airflow_home: None, tmp_path: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag

    examples = [e for e in EXAMPLE.findall((DOCS / page).read_text()) if "evidence_check_dag" in e]
    assert examples
    for number, example in enumerate(examples):
        dag_file = tmp_path / f"evidence_{number}.py"
        dag_file.write_text(example + "\n# airflow dag\n")
        bag = DagBag(dag_file)
        assert bag.import_errors == {}
        assert list(bag.dags) == ["kafka_exactly_evidence_check"]


# -- links and files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = HEADING.findall(CODE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_page_of_the_documents_can_be_reached_from_the_readme() -> None:
    seen, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page.suffix != ".md" or page in seen:
            continue
        seen.add(page)
        targets = (link.partition("#")[0] for link in LINK.findall(CODE.sub("", page.read_text())))
        waiting += [
            (page.parent / t).resolve() for t in targets if t and ":" not in t and (page.parent / t).exists()
        ]
    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in seen] == []


def test_a_records_way_names_files_that_exist() -> None:
    table = section(README, "A record's way through the files")
    named = re.findall(r"`([\w/]+\.(?:py|sql))`", table)
    assert len(named) > 40
    assert [name for name in named if not (PACKAGE / name).is_file()] == []


def test_files_and_folders_named_in_prose_exist() -> None:
    roots = (
        "airflow_kafka_exactly/",
        "adapters/",
        "runtime/",
        "protocol/",
        "tests/",
        "docker/",
        "dags/",
        "benchmarks/",
    )
    named = (
        (page, name)
        for page in PAGES
        for name in re.findall(r"`([\w./-]+/[\w./-]*)`", CODE.sub("", page.read_text()))
        if name.startswith(roots)
    )
    missing = [
        f"{page.relative_to(ROOT)}: {name}"
        for page, name in named
        if not ((ROOT / name).exists() or (PACKAGE / name).exists())
    ]
    assert missing == []


def test_make_targets_that_are_named_exist_or_are_said_to_be_missing() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = set(re.findall(r"`make (\w+)`", section((DOCS / "testing.md").read_text(), "Not there yet")))
    assert {"demo", "test", "lint", "bench"} <= code_targets()
    assert code_targets() - targets <= told
    assert told & targets == set(), "it exists by now: take it from the list of what is missing"


def code_targets() -> set[str]:
    """`make x` in code quotes or at the start of a line of a code block; not "make it narrow"."""
    text = "\n".join(page.read_text() for page in PAGES)
    return set(re.findall(r"(?:`|^)make (\w+)", text, re.MULTILINE))


# -- the reference -----------------------------------------------------------------------------------------------------


def operator_parameters() -> set[str]:
    from airflow_kafka_exactly.operators import KafkaExactlyOnceOperator

    parameters = inspect.signature(KafkaExactlyOnceOperator.__init__).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"task_id"}


def test_every_parameter_of_the_operator_is_documented_with_its_default(airflow_home: None) -> None:
    from airflow_kafka_exactly.operators import CHOICES, KafkaExactlyOnceOperator

    page = section((DOCS / "reference" / "operator.md").read_text(), "Parameters")
    rows = {cells[0].strip("`"): cells[1:] for cells in table_rows(page)}
    assert rows.keys() == own_parameters(KafkaExactlyOnceOperator)
    for name, parameter in inspect.signature(KafkaExactlyOnceOperator.__init__).parameters.items():
        if name in rows and parameter.default not in (None, inspect.Parameter.empty):
            told = rows[name][0].strip("`")
            assert ast.literal_eval(told) == parameter.default, name
    for name, choices in CHOICES.items():
        assert all(f'"{choice}"' in "".join(rows[name]) for choice in choices), name


def own_parameters(operator: Any) -> set[str]:
    """Those that its source names: Airflow wraps `__init__` and adds none to it."""
    (init,) = [
        node
        for node in ast.walk(ast.parse(inspect.getsource(sys.modules[operator.__module__])))
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    return {argument.arg for argument in init.args.kwonlyargs}


def test_the_record_is_documented(airflow_home: None) -> None:
    from airflow_kafka_exactly import Record

    page = section((DOCS / "reference" / "operator.md").read_text(), "The record")
    told = {name for cells in table_rows(page) for name in re.findall(r"`(\w+)`", cells[0])}
    assert told == set(Record.__annotations__)


def test_every_count_of_the_summary_is_documented() -> None:
    from airflow_kafka_exactly.protocol.summary import COUNTS

    page = section((DOCS / "reference" / "operator.md").read_text(), "What the task returns")
    told = [name for cells in table_rows(page) for name in re.findall(r"`(\w+)`", cells[0])]
    assert sorted(told) == sorted(COUNTS)


def test_every_option_is_documented_with_its_default() -> None:
    from airflow_kafka_exactly.provider import get_provider_info

    options = get_provider_info()["config"]["kafka_exactly"]["options"]
    page = section((DOCS / "reference" / "configuration.md").read_text(), "in Airflow's configuration")
    told = {cells[0].strip("`"): cells[1].strip("`") for cells in table_rows(page)}
    assert told == {name: option["default"] for name, option in options.items()}


def test_every_command_is_documented_with_its_options(airflow_home: None) -> None:
    from airflow_kafka_exactly.cli import ARG_OUTPUT, ARG_VERBOSE, get_commands

    (group,) = get_commands()
    page = (DOCS / "reference" / "commands.md").read_text()
    told = {cells[0].strip("`"): set(re.findall(r"`(-[\w-]+)`", cells[1])) for cells in table_rows(page)}
    common = {*ARG_OUTPUT.flags, *ARG_VERBOSE.flags}
    named = {
        f"{command.name} {inner.name}" if inner is not command else command.name: inner
        for command in group.subcommands
        for inner in getattr(command, "subcommands", (command,))
    }
    real = {
        name: {f for arg in inner.args for f in arg.flags if f.startswith("-")} - common
        for name, inner in named.items()
    }
    assert told == real
    assert all(f"`{flag}`" in page for flag in common)


def test_every_call_of_the_channel_and_every_notice_is_explained() -> None:
    from airflow_kafka_exactly.adapters.channel import kafka_exactly_pb2
    from airflow_kafka_exactly.protocol.votes import NoticeKind

    page = section((DOCS / "protocol.md").read_text(), "Messages")
    calls = {m.name for m in kafka_exactly_pb2.DESCRIPTOR.services_by_name["KafkaExactly"].methods}
    assert {cells[0].strip("`") for cells in table_rows(page)} == calls
    assert all(f"`{kind}`" in page for kind in NoticeKind)


def test_kinds_and_ends_of_doubts_and_orphan_commits_are_explained() -> None:
    from airflow_kafka_exactly.protocol.claims import DoubtKind, DoubtState, OrphanState, Outcome
    from airflow_kafka_exactly.protocol.evidence import Ruling

    doubts = (DOCS / "howto" / "deal-with-doubts.md").read_text()
    assert all(f"`{kind}`" in doubts for kind in [*DoubtKind, *Outcome])
    assert all(f"*{state}*" in doubts for state in DoubtState)
    assert all(f"| {ruling} |" in doubts for ruling in Ruling)
    operate = (DOCS / "howto" / "operate.md").read_text()
    assert all(f"`{state}`" in operate for state in OrphanState if state is not OrphanState.OPEN)


def test_every_decision_has_context_choice_and_price_in_a_few_lines() -> None:
    for title, text in sections((DOCS / "decisions.md").read_text()):
        parts = re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE)
        assert parts == ["Context", "Choice", "Price"], title
        assert len(text.strip().splitlines()) <= 6, title


# -- reading Markdown --------------------------------------------------------------------------------------------------


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Each second-level heading with what follows it."""
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        yield title, body


def section(text: str, title: str) -> str:
    (found,) = [body for name, body in sections(text) if title in name]
    return found


def table_rows(text: str) -> list[list[str]]:
    """The cells of all tables, without their heads."""
    lines = [line.strip().strip("|") for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    heads = {index - 1 for index, row in enumerate(rows) if set("".join(row)) <= set("-| ")}
    return [row for index, row in enumerate(rows) if index not in heads and index - 1 not in heads]
