"""What `make chaos` is made of, without its services: the plan of a seed, and the links that it cuts."""

import socket
from collections.abc import Iterator

import pytest
from chaos.links import Network
from chaos.nemesis import DECK, plan


def test_the_same_seed_gives_the_same_plan() -> None:
    assert list(plan(7, 600)) == list(plan(7, 600))
    assert list(plan(7, 600)) != list(plan(8, 600))


def test_ten_minutes_deal_every_kind_of_fault() -> None:
    steps = list(plan(1, 600))
    assert {step.kind for step in steps} == set(DECK)
    assert all(step.at_s < 600 for step in steps)
    assert max(step.lasts_s for step in steps) <= 60


def test_no_fault_lasts_longer_than_a_quarter_of_the_run() -> None:
    assert max(step.lasts_s for step in plan(3, 80)) <= 20


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


def test_a_link_forwards_holds_back_what_it_froze_and_ends_what_it_cut(server: socket.socket) -> None:
    network = Network()
    link = network.link("a service", server.getsockname()[1])
    with network:
        network.serve()
        with socket.create_connection((link.host, link.port), timeout=10) as near, server.accept()[0] as far:
            near.sendall(b"one")
            assert far.recv(10) == b"one"
            network.change("a service", "frozen")
            near.sendall(b"two")
            far.settimeout(0.3)
            with pytest.raises(TimeoutError):
                far.recv(10)
            network.heal()
            far.settimeout(10)
            assert far.recv(10) == b"two"
            network.change("a service", "cut")
            assert ended(near)
            with socket.create_connection((link.host, link.port), timeout=10) as refused:
                assert ended(refused)


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(10) == b""
    except ConnectionResetError:
        return True
