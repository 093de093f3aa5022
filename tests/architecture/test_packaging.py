"""What an installed package must bring along, and what its metadata promise."""

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import airflow_kafka_exactly

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_stands_in_one_place_for_each_reader() -> None:
    assert PROJECT["project"]["version"] == airflow_kafka_exactly.__version__


def test_the_entry_points_can_be_loaded() -> None:
    for group, points in PROJECT["project"]["entry-points"].items():
        for name in points:
            found = list(entry_points(group=group, name=name))
            assert found, f"{group}: {name} is not installed; run `make setup`"
            assert all(point.load() is not None for point in found)


def test_every_dependency_is_pinned_by_the_constraints() -> None:
    pinned = {canonical(line.partition("==")[0]) for line in lines_of_constraints()}
    groups = PROJECT["dependency-groups"]
    wanted = [
        *PROJECT["project"]["dependencies"],
        *(entry for group in groups.values() for entry in group if isinstance(entry, str)),
    ]
    names = {canonical(re.split(r"[\[<>=~!; ]", requirement)[0]) for requirement in wanted}
    assert names - pinned == set()


def test_the_constraints_are_versions_and_nothing_else() -> None:
    assert [line for line in lines_of_constraints() if not re.fullmatch(r"[\w.-]+==[\w.+-]+", line)] == []


def test_pages_statements_and_types_are_part_of_the_package() -> None:
    """The build takes the whole folder, so it is enough that nothing which the package reads lies outside."""
    assert (ROOT / "airflow_kafka_exactly" / "py.typed").exists()
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["airflow_kafka_exactly"]


def lines_of_constraints() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_readme_is_the_long_description() -> None:
    assert (PROJECT["project"].get("readme") == "README.md") == (ROOT / "README.md").exists()
