"""Kafka's and ZooKeeper's programs: fetched once by Maven from ``docker/pom.xml``, run with plain ``java -cp``."""

import fcntl
import hashlib
import shutil
import subprocess
from functools import cache
from pathlib import Path

from localstack.prerequisites import require

_DOCKER = Path(__file__).resolve().parent.parent
_POM = _DOCKER / "pom.xml"
_STATE = _DOCKER.parent / ".state"
_FETCH_SECONDS = 600.0
_ERROR_CHARACTERS = 2_000


@cache
def jars() -> Path:
    """Folder with all jars. A folder per content of the pom, so a changed version is never mixed with an old one."""
    require("java", "mvn")
    _STATE.mkdir(parents=True, exist_ok=True)
    folder = _STATE / f"jars-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]}"
    with (_STATE / "jars.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once fetch once
        if not folder.exists():
            _fetch(folder)
    return folder


def java(main_class: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    """The command that runs a class of these jars."""
    log = "-Dorg.slf4j.simpleLogger."
    logging = (f"{log}defaultLogLevel=warn", f"{log}showDateTime=true", f"{log}dateTimeFormat=HH:mm:ss.SSS")
    # SerialGC: the smallest and the quickest to start; these heaps are a few hundred MB.
    return ["java", "-XX:+UseSerialGC", *options, *logging, "-cp", f"{jars()}/*", main_class, *arguments]


def _fetch(folder: Path) -> None:
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    done = subprocess.run(
        ["mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={partial}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_FETCH_SECONDS,
        check=False,
    )
    said = done.stdout + done.stderr
    if done.returncode:
        raise RuntimeError(f"Maven could not fetch Kafka and ZooKeeper:\n{said[-_ERROR_CHARACTERS:]}")
    partial.rename(folder)
