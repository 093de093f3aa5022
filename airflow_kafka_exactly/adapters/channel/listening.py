"""A grpc server on its port: who may call, with or without TLS, and the address that others are told."""

from __future__ import annotations

import hmac
import logging
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from airflow_kafka_exactly.adapters.channel import service
from airflow_kafka_exactly.errors import ConfigurationError
from airflow_kafka_exactly.settings import ChannelSettings

log = logging.getLogger(__name__)

_ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not bound to


class Gate(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc ships no types
    """Lets nobody through without the shared secret, or with another version of the protocol."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def intercept_service(self, continuation: Callable[[Any], Any], call: Any) -> Any:
        refusal = self._refusal(dict(call.invocation_metadata))
        if refusal is None:
            return continuation(call)
        code, reason = refusal
        log.warning("refused a call of %s: %s", call.method, reason)
        return grpc.unary_unary_rpc_method_handler(lambda _message, context: context.abort(code, reason))

    def _refusal(self, metadata: Mapping[str, Any]) -> tuple[Any, str] | None:
        given = metadata.get(service.SECRET_KEY, b"")
        if not hmac.compare_digest(given, self._secret):
            return grpc.StatusCode.UNAUTHENTICATED, "the shared secret is missing or wrong"
        version = metadata.get(service.VERSION_KEY)
        if version != service.PROTOCOL_VERSION:
            return grpc.StatusCode.UNIMPLEMENTED, f"{version}, this one speaks {service.PROTOCOL_VERSION}"
        return None


def listen(
    settings: ChannelSettings,
    pool: ThreadPoolExecutor,
    answers: Mapping[str, Callable[[Any, Any], Any]],
    max_calls: int,
) -> tuple[Any, int]:
    """A server that is bound and not yet started, and its port. More than `max_calls` at once are refused at once."""
    server = grpc.server(
        pool,
        interceptors=[Gate(settings.secret)],
        options=service.options(settings),
        maximum_concurrent_rpcs=max_calls,
    )
    handlers = {}
    for name, (kind, request, response) in service.methods().items():
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        handlers[name] = make(answers[name], request.FromString, response.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.SERVICE_NAME, handlers),))
    return server, _bind(server, settings)


def advertised(settings: ChannelSettings, port: int) -> str:
    """Where others reach this server."""
    host = settings.advertise or (socket.gethostname() if settings.bind in _ANYWHERE else settings.bind)
    return f"{_bracketed(host)}:{port}"


def _bind(server: Any, settings: ChannelSettings) -> int:
    address = f"{_bracketed(settings.bind or '::')}:{settings.port}"
    try:
        if settings.tls_certificate is None:
            port = server.add_insecure_port(address)
        else:
            pair = (settings.tls_key, settings.tls_certificate)
            port = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    except (RuntimeError, ValueError) as error:
        raise _unusable(settings, address, error) from error
    if not port:
        raise _unusable(settings, address, "the system refused it")
    return int(port)


def _unusable(settings: ChannelSettings, address: str, why: object) -> ConfigurationError:
    return ConfigurationError(
        f"connection {settings.connection!r}: the channel cannot listen on {address} ({why}). Is the port in use, the host "
        "another machine's, or the certificate broken? Port 0 lets the system choose."
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
