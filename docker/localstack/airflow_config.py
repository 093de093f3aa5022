"""Airflow's configuration, as the environment variables that all its processes share."""

import base64
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

#: The same in every installation; ``AIRFLOW__`` is put before each name.
FIXED = {
    "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
    "CORE__EXECUTOR": "LocalExecutor",
    "CORE__LOAD_EXAMPLES": "False",
    "CORE__PARALLELISM": "8",
    "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
    "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
    "USAGE_DATA_COLLECTION__ENABLED": "False",
    # A worker that was killed or frozen is noticed in 30 s, not in 300.
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    # A triggerer that was killed is replaced in about 16 s instead of 25. Not less: the heartbeat in the database is
    # always one interval old, so with a few seconds a triggerer that merely stalls would be robbed of its triggers
    # while it runs them.
    "TRIGGERER__JOB_HEARTBEAT_SEC": "3",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "20",
    # A new or changed DAG file is seen in seconds.
    "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
    "DAG_PROCESSOR__PARSING_PROCESSES": "1",
}


def airflow_environment(
    *, home: Path, database: str, dags: Path, url: str, connections: Mapping[str, str]
) -> dict[str, str]:
    """``database`` is a conninfo URI, ``connections`` is connection id to Airflow's JSON or URI."""
    here = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    settings = {**FIXED, **_shared(home, database, dags, url)}
    return {
        **here,
        # The DAGs' own subprocesses find the same `airflow` and `python`.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{here.get('PATH', '')}",
        "AIRFLOW_HOME": str(home),
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        **{f"AIRFLOW_CONN_{name.upper()}": value for name, value in connections.items()},
    }


def _shared(home: Path, database: str, dags: Path, url: str) -> dict[str, str]:
    """What all processes of one installation must agree on."""
    return {
        "API__BASE_URL": url,
        "API__SECRET_KEY": secrets.token_hex(16),
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "CORE__DAGS_FOLDER": str(dags.resolve()),
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "DATABASE__SQL_ALCHEMY_CONN": database.replace("postgresql://", "postgresql+psycopg2://", 1),
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": database.replace("postgresql://", "postgresql+asyncpg://", 1),
    }
