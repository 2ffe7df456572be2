"""Ports on loopback that stay ours while nobody listens on them."""

from __future__ import annotations

import random
import socket

# Below the range (32768 and up) from which the kernel gives ports to outgoing connections: one of
# those must not sit on a server's port while that server restarts.
_RANGE = range(20_000, 32_000)
_given: set[int] = set()
"""Their programs may not listen yet, or just be restarting."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 on which nobody listens now, and which were never given to another
    program of this process; somebody else may take one the next moment."""
    found: list[int] = []
    for port in random.sample(_RANGE, len(_RANGE)):
        if port not in _given and is_free("127.0.0.1", port):
            found.append(port)
        if len(found) == count:
            _given.update(found)
            return found
    raise OSError(f"no {count} free ports on 127.0.0.1")


def is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do, so that connections which are only closing down do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def is_open(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
