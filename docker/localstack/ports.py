"""Free loopback ports that stay ours while a service is down."""

import random
import socket

LOOPBACK = "127.0.0.1"
# Below the range from which Linux gives ports to outgoing connections (32768 and up): a client's connection cannot take the
# port of a service that is stopped for a while.
_LOWEST, _HIGHEST = 20_000, 32_000
_ATTEMPTS = 200

_given: set[int] = set()


def free_port() -> int:
    """A port nobody listens on, never given twice by this process."""
    for _ in range(_ATTEMPTS):
        port = random.randrange(_LOWEST, _HIGHEST)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise OSError(f"no free loopback port between {_LOWEST} and {_HIGHEST} in {_ATTEMPTS} attempts")


def accepts(port: int) -> bool:
    """Whether someone listens on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
