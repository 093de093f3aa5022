"""What both ends agree on: methods, metadata, connection options, and which status says what.

There is no generated stub: the methods are read from the descriptor, which keeps grpcio's version free.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from airflow_kafka_exactly.adapters.channel import kafka_exactly_pb2 as pb
from airflow_kafka_exactly.errors import (
    ConfigurationError,
    Fenced,
    KafkaExactlyError,
    NotLeading,
    PeerRefused,
    StaleEpoch,
    Unavailable,
)
from airflow_kafka_exactly.settings import ChannelSettings

PROTOCOL_VERSION = "1"
SECRET_KEY = "kafka-exactly-secret-bin"  # noqa: S105 - the name of a header
VERSION_KEY = "kafka-exactly-protocol"

_SERVICE = pb.DESCRIPTOR.services_by_name["KafkaExactly"]
SERVICE_NAME = _SERVICE.full_name
_KINDS = {(False, False): "unary_unary", (False, True): "unary_stream", (True, True): "stream_stream"}

_MESSAGE_MAX_BYTES = 64 * 1024 * 1024
"""About 2.7 million records of a ballot, or everything that a member's prefetch may hold in hand."""


def methods() -> dict[str, tuple[str, type[Message], type[Message]]]:
    """Name → kind ("unary_stream", …), request and response class."""
    return {
        m.name: (
            _KINDS[m.client_streaming, m.server_streaming],
            GetMessageClass(m.input_type),
            GetMessageClass(m.output_type),
        )
        for m in _SERVICE.methods
    }


def metadata(
    settings: ChannelSettings, version: str = PROTOCOL_VERSION
) -> tuple[tuple[str, str | bytes], ...]:
    """Goes with every call. Without TLS the secret can be read by whoever can read the network."""
    return ((SECRET_KEY, settings.secret.encode()), (VERSION_KEY, version))


def options(settings: ChannelSettings) -> list[tuple[str, int]]:
    """A peer that is silent is given up after two keepalive times, with or without a call under way."""
    keepalive_ms = int(settings.keepalive_s * 1000)
    return [
        ("grpc.max_receive_message_length", _MESSAGE_MAX_BYTES),
        ("grpc.max_send_message_length", _MESSAGE_MAX_BYTES),
        ("grpc.keepalive_time_ms", keepalive_ms),
        ("grpc.keepalive_timeout_ms", keepalive_ms),
        (
            "grpc.http2.ping_timeout_ms",
            keepalive_ms,
        ),  # without it an unanswered ping is waited for a minute (measured)
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", keepalive_ms // 2),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.so_reuseport", 0),  # two servers on one port would share its callers without a word
        ("grpc.use_local_subchannel_pool", 1),  # a link's connection is its own, and ends with it
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
    ]


# -- errors ------------------------------------------------------------------------------------------------------------


def status_of(error: KafkaExactlyError | ValueError) -> Any:
    """The status that a handler's error travels as."""
    if isinstance(error, NotLeading | StaleEpoch):
        return grpc.StatusCode.FAILED_PRECONDITION
    if isinstance(error, Fenced):
        return grpc.StatusCode.ABORTED
    if isinstance(error, PeerRefused | ConfigurationError | ValueError):
        return grpc.StatusCode.INVALID_ARGUMENT
    return grpc.StatusCode.UNAVAILABLE


def error_of(broken: grpc.RpcError, address: str, settings: ChannelSettings) -> KafkaExactlyError:
    """What a call's end means to the caller."""
    code, details = broken.code(), broken.details() or ""
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return NotLeading(f"{address}: {details}")
    if code is grpc.StatusCode.ABORTED:
        return Fenced(details)
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return PeerRefused(f"{address} has another secret than connection {settings.connection!r}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return PeerRefused(f"{address} speaks another version of the protocol: {details}")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return PeerRefused(f"{address} refused a message: {details}")
    return unavailable(address, settings, f"{code.name} {details}".rstrip())


def unavailable(address: str, settings: ChannelSettings, detail: str) -> Unavailable:
    return Unavailable("the leader", settings.connection, f"{address}: {detail}")
