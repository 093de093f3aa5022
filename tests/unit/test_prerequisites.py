"""What a newcomer reads when a program is missing."""

import os
import shutil
from typing import Any

import pytest
from localstack import prerequisites
from localstack.prerequisites import PrerequisiteMissing, require


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: "apt-get" if program == "apt-get" else None)
    monkeypatch.setattr(prerequisites, "postgres_programs", cleared(lambda: None))


def test_a_user_reads_one_line_with_the_command(
    monkeypatch: pytest.MonkeyPatch, nothing_installed: None
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PrerequisiteMissing) as raised:
        require("java", "mvn", "postgres")
    assert str(raised.value) == (
        "missing: java, mvn, postgres; "
        "install with: sudo apt-get install -y default-jre-headless maven postgresql"
    )


def test_root_gets_them_installed_and_checked(
    monkeypatch: pytest.MonkeyPatch, nothing_installed: None
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(prerequisites, "_apt", lambda *arguments: asked.append(arguments))
    with pytest.raises(PrerequisiteMissing, match="missing or too old after 'apt-get install -y maven': mvn"):
        require("mvn")
    assert asked == [("update", "-q"), ("install", "-y", "-q", "--no-install-recommends", "maven")]


def test_nothing_is_said_when_nothing_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: program)
    require("mvn", "setpriv")
    assert capsys.readouterr().out == ""


def cleared(function: Any) -> Any:
    """A stand-in for a cached function."""
    function.cache_clear = lambda: None
    return function
