"""Airflow in this process, with a home of its own: nothing of the user's is read or written."""

import os
import tempfile

for name in [name for name in os.environ if name.startswith(("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_HOME"))]:
    del os.environ[name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="kafka_exactly_airflow_")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
