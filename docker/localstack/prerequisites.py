"""Programs the local stack needs from the system: found, installed when we may, or named in one line."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

JAVA_AT_LEAST = 17
POSTGRES_AT_LEAST = 15
_PACKAGES = {"java": "default-jre-headless", "mvn": "maven", "postgres": "postgresql", "setpriv": "util-linux"}
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
    folders = [Path(found).resolve().parent] if (found := shutil.which("postgres")) else []
    folders += Path("/usr/lib/postgresql").glob("*/bin")
    usable = [(version, folder) for folder in folders if (version := _postgres_version(folder)) >= POSTGRES_AT_LEAST]
    return max(usable)[1] if usable else None


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
    said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+)", said)
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
    if done.returncode:
        raise PrerequisiteMissing(f"apt-get {' '.join(arguments)} failed:\n{(done.stdout + done.stderr)[-_ERROR_CHARACTERS:]}")
