"""Programs the local stack needs from the system: found, installed when we may, or named in one line."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

JAVA_AT_LEAST = 17
POSTGRES_AT_LEAST = 15
_PACKAGES = {
    "java": "default-jre-headless",
    "mvn": "maven",
    "postgres": "postgresql",
    "setpriv": "util-linux",
}
_INSTALL_SECONDS = 900.0
_ERROR_CHARACTERS = 2_000


class PrerequisiteMissing(RuntimeError):
    """A program is missing and could not be installed; the message names the command that installs it."""


def require(*programs: str) -> None:
    """Make sure these programs (keys of the package table) are there."""
    missing = [program for program in programs if not _present(program)]
    if not missing:
        return
    packages = sorted({_PACKAGES[program] for program in missing})
    command = f"apt-get install -y {' '.join(packages)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise PrerequisiteMissing(f"missing: {', '.join(missing)}; install with: sudo {command}")
    print(f"installing {' '.join(packages)}", flush=True)
    _apt("update", "-q")
    _apt("install", "-y", "-q", "--no-install-recommends", *packages)
    postgres_programs.cache_clear()
    still = [program for program in missing if not _present(program)]
    if still:
        raise PrerequisiteMissing(f"missing or too old after {command!r}: {', '.join(still)}")


@cache
def postgres_programs() -> Path | None:
    """Folder of the newest PostgreSQL server programs; Debian keeps them out of PATH."""
    in_path = shutil.which("postgres")
    folders = [Path(in_path).resolve().parent] if in_path else []
    folders += Path("/usr/lib/postgresql").glob("*/bin")
    found = max(((_postgres_version(folder), folder) for folder in folders), default=None)
    return found[1] if found and found[0] >= POSTGRES_AT_LEAST else None


def _present(program: str) -> bool:
    if program == "postgres":
        return postgres_programs() is not None
    if program == "java":
        return shutil.which("java") is not None and _java_version() >= JAVA_AT_LEAST
    return shutil.which(program) is not None


def _java_version() -> int:
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found.group(1)) if found else 0


def _postgres_version(folder: Path) -> int:
    if not (folder / "postgres").exists() or not (folder / "initdb").exists():
        return 0
    asked = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"(\d+)", asked.stdout)
    return int(found.group(1)) if found else 0


def _apt(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_INSTALL_SECONDS,
        check=False,
    )
    said = done.stdout + done.stderr
    if done.returncode:
        raise PrerequisiteMissing(f"apt-get {' '.join(arguments)} failed:\n{said[-_ERROR_CHARACTERS:]}")
