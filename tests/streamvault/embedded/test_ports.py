from __future__ import annotations

import socket

from streamvault.embedded.ports import free_ports


def test_a_port_is_given_to_one_program_alone() -> None:
    # Of 12,000: by chance alone some would be given twice.
    given = [port for _ in range(100) for port in free_ports(5)]
    assert len(set(given)) == 500


def test_a_port_on_which_somebody_listens_is_not_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert taken.getsockname()[1] not in free_ports(100)
