"""The gRPC channel between members, leader and standbys. `kafka_exactly.proto` says what travels; `make proto` generates."""

from airflow_kafka_exactly.adapters.channel.client import GrpcChannel
from airflow_kafka_exactly.adapters.channel.server import GrpcServer

__all__ = ["GrpcChannel", "GrpcServer"]
