"""The clock, and what ends this process in time; `watch` is the program of the sibling, in an interpreter of its own."""

from airflow_kafka_exactly.adapters.guard.process import BootClock, NoGuard, ProcessGuard

__all__ = ["BootClock", "NoGuard", "ProcessGuard"]
