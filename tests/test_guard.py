"""The suite's own rule: no test reaches the network."""

import socket

import pytest

OUTSIDE = "192.0.2.1"  # TEST-NET-1 of RFC 5737: nobody answers there


def test_outside_addresses_are_refused_before_a_packet_leaves() -> None:
    with pytest.raises(BaseException, match=r"socket\.getaddrinfo of example\.invalid"):
        socket.getaddrinfo("example.invalid", 80)
    with socket.socket() as tcp, pytest.raises(BaseException, match=r"socket\.connect to"):
        tcp.connect((OUTSIDE, 80))
    with socket.socket(type=socket.SOCK_DGRAM) as udp, pytest.raises(BaseException, match=r"socket\.sendto to"):
        udp.sendto(b"x", (OUTSIDE, 53))


def test_loopback_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()[:2]) as client:
        connection, _ = server.accept()
        client.sendall(b"hello")
        assert connection.recv(5) == b"hello"
        connection.close()
