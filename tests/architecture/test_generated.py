"""Generated code is checked in, so it must be what its source generates."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path.relative_to(ROOT) for path in (ROOT / "airflow_kafka_exactly").rglob("*.proto"))


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_the_protobuf_code_is_what_make_proto_writes(source: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-I",
        ".",
        f"--python_out={tmp_path}",
        f"--pyi_out={tmp_path}",
    ]
    subprocess.run([*command, str(source)], cwd=ROOT, check=True)
    generated = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(generated) == 2
    for path in generated:
        assert (ROOT / path.relative_to(tmp_path)).read_text() == path.read_text(), (
            f"run `make proto` for {source}"
        )


def test_a_source_was_found() -> None:
    assert SOURCES
