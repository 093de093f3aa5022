"""The local stack: real Kafka, ZooKeeper, PostgreSQL and Airflow as child processes, on free loopback ports, in one folder.

For tests and the demo, without containers. Needs a JDK, Maven and PostgreSQL's server programs (``prerequisites``).
"""

from localstack.airflow import Airflow
from localstack.kafka import Kafka
from localstack.postgres import PostgreSQL
from localstack.service import Service, ServiceError
from localstack.stack import AirflowStack, Stack
from localstack.zookeeper import ZooKeeper

__all__ = ["Airflow", "AirflowStack", "Kafka", "PostgreSQL", "Service", "ServiceError", "Stack", "ZooKeeper"]
