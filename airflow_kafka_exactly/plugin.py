"""The plugin that Airflow finds by its entry point. Nothing is imported or started here: plugins are loaded in every process,
the supervisors that fork others included. No listener is registered: any listener makes Airflow refuse DAGs whose tasks
end in the triggerer."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class KafkaExactlyPlugin(AirflowPlugin):
    """A name in the list of plugins; pages come to it later."""

    name = "kafka_exactly"
