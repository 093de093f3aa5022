"""Kafka, by confluent-kafka (librdkafka)."""

from airflow_kafka_exactly.adapters.kafka.admin import ClusterAdmin
from airflow_kafka_exactly.adapters.kafka.config import check
from airflow_kafka_exactly.adapters.kafka.consumer import KafkaConsumers

__all__ = ["ClusterAdmin", "KafkaConsumers", "check"]
