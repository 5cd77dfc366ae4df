"""The command that starts a service, before it answers."""

import socket

from tests.cli.conftest import run


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(runs):
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = run("serve", runs / "linear", "--port", other.getsockname()[1])
    assert result.code == 1
    assert "--port" in result.err
    assert "http://" not in result.out
