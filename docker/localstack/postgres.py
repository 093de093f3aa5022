"""A PostgreSQL server with a cluster of its own."""

import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import psycopg
from psycopg import sql

from localstack.ports import LOOPBACK, accepts, free_port
from localstack.prerequisites import postgres_programs, require
from localstack.service import Service, ServiceError

USER = "postgres"
#: Known to everybody: the server listens on loopback only and holds nothing but test data.
PASSWORD = "postgres"
_INITDB_SECONDS = 120.0
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "300",
    # Test data: a crash of the *machine* may lose it. A crash of the server process loses nothing, so killing the service still
    # tests durability. A ledger that matters must never run like this.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "log_min_messages": "warning",
}


class PostgreSQL(Service):
    """``address`` is the superuser's conninfo; ``conninfo(name)`` the one of another database."""

    stop_signal = signal.SIGINT  # ends open connections; with SIGTERM it would wait for its clients to leave
    orphaned_signal = "QUIT"  # its quickest orderly end; KILL would leave the server's children running

    def __init__(self, state: Path, *, port: int | None = None, keep: bool = False) -> None:
        super().__init__("postgres", state, keep=keep)
        self.port = port or free_port()
        self._data = self._reachable_folder() / "data"

    @property
    def address(self) -> str:
        return self.conninfo("postgres")

    def conninfo(self, database: str) -> str:
        return f"postgresql://{USER}:{PASSWORD}@{LOOPBACK}:{self.port}/{database}"

    def prepare(self) -> None:
        require("postgres")
        if not (self._data / "PG_VERSION").exists():
            self._initdb()

    def command(self) -> list[str]:
        settings = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        return [self._program("postgres"), "-D", str(self._data), "-p", str(self.port), *settings]

    def run_as(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        return ["--reuid", USER, "--regid", USER, "--init-groups"]  # PostgreSQL refuses to run as root

    def ready(self) -> bool:
        if not accepts(self.port):
            return False
        try:
            psycopg.connect(self.address, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def remove(self) -> None:
        super().remove()
        shutil.rmtree(self._data.parent, ignore_errors=True)

    def create_database(self, name: str) -> str:
        """Create it unless it exists; returns its conninfo."""
        with psycopg.connect(self.address, autocommit=True) as connection:
            exists = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount
            if not exists:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.conninfo(name)

    def _program(self, name: str) -> str:
        folder = postgres_programs()
        if folder is None:
            raise ServiceError("PostgreSQL's server programs are missing")
        return str(folder / name)

    def _initdb(self) -> None:
        owner = self._data.parent
        owner.mkdir(parents=True, exist_ok=True)
        if owner.is_symlink() or owner.stat().st_uid not in self._own_users():
            raise ServiceError(f"{owner} belongs to somebody else; remove it")
        secret = owner / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            user = pwd.getpwnam(USER)
            for path in (owner, secret):
                os.chown(path, user.pw_uid, user.pw_gid)
        options = f"-U {USER} -A scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync".split()
        program = [self._program("initdb"), "-D", str(self._data), f"--pwfile={secret}", *options]
        done = subprocess.run(
            ["setpriv", *self.run_as(), "--", *program],
            cwd=owner,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INITDB_SECONDS,
            check=False,
        )
        if done.returncode:
            raise ServiceError(f"initdb failed:\n{done.stdout}{done.stderr}")

    @staticmethod
    def _own_users() -> set[int]:
        """Us, and whom the server runs as."""
        return {os.geteuid(), pwd.getpwnam(USER).pw_uid} if os.geteuid() == 0 else {os.geteuid()}

    def _reachable_folder(self) -> Path:
        """``folder``, or one in the temporary folder when we are root and its user may not enter ``folder``."""
        existing = [parent for parent in self.folder.parents if parent.exists()]
        if os.geteuid() != 0 or all(parent.stat().st_mode & stat.S_IXOTH for parent in existing):
            return self.folder
        digest = hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"localstack-postgres-{digest}"
