"""Produces headers that the Python client refuses to send: names that are not UTF-8, by the C library that it brings along."""

from __future__ import annotations

import ctypes
from pathlib import Path

import confluent_kafka

_TOPIC, _PARTITION, _VALUE, _HEADER, _FLAGS, _END = 1, 3, 4, 9, 7, 0
_COPY = 0x2


def produce(bootstrap: str, topic: str, value: bytes, header: tuple[bytes, bytes]) -> None:
    """One record into partition 0; it is in the log when this returns."""
    (path,) = Path(confluent_kafka.__file__).parent.parent.glob("confluent_kafka.libs/librdkafka-*.so*")
    library = ctypes.CDLL(str(path))
    for name in ("rd_kafka_conf_new", "rd_kafka_new"):
        getattr(library, name).restype = ctypes.c_void_p
    said = ctypes.create_string_buffer(512)
    config = ctypes.c_void_p(library.rd_kafka_conf_new())
    assert library.rd_kafka_conf_set(config, b"bootstrap.servers", bootstrap.encode(), said, 512) == 0, (
        said.value
    )
    client = ctypes.c_void_p(library.rd_kafka_new(0, config, said, 512))
    assert client, said.value
    name, content = header
    size = ctypes.c_size_t
    error = library.rd_kafka_producev(
        client,
        *(ctypes.c_int(_TOPIC), ctypes.c_char_p(topic.encode())),
        *(ctypes.c_int(_PARTITION), ctypes.c_int32(0)),
        *(ctypes.c_int(_VALUE), ctypes.c_char_p(value), size(len(value))),
        *(ctypes.c_int(_HEADER), ctypes.c_char_p(name), ctypes.c_char_p(content), size(len(content))),
        *(ctypes.c_int(_FLAGS), ctypes.c_int(_COPY)),
        ctypes.c_int(_END),
    )
    assert error == 0
    assert library.rd_kafka_flush(client, ctypes.c_int(30_000)) == 0
    library.rd_kafka_destroy(client)
