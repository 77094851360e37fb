from __future__ import annotations

import ipaddress
import socket

import pytest

from meshnode.cli.doctor import wires
from meshnode.cli.doctor.facts import Wire
from meshnode.mesh.interfaces import Confinement, Interface

LAN = Interface("eth0", "lan", (ipaddress.IPv4Interface("192.168.1.5/24"), ipaddress.IPv6Interface("fd00::5/64")))
V6 = Interface("eth1", "lan", (ipaddress.IPv6Interface("fd01::5/64"),))
BRIDGE = Interface("docker0", "bridge", (ipaddress.IPv4Interface("172.17.0.1/16"),))


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses at which the group was joined; nothing leaves the machine."""
    tried: list[str] = []

    def join(host: str) -> str:
        tried.append(host)
        return "denied"

    monkeypatch.setattr(wires, "_join", join)
    monkeypatch.setattr(wires, "interfaces", lambda: (LAN, V6, BRIDGE, Interface("wlan0", "down")))
    monkeypatch.setattr(wires, "confined", lambda: Confinement("wsl", "others cannot: dial out"))
    return tried


def test_the_group_is_joined_where_multicast_is_spoken(joined: list[str]) -> None:
    found, around = wires.gather((), multicast=True)
    assert found[0] == Wire("eth0", "lan", ("192.168.1.5", "fd00::5"), group="denied")
    assert [wire.name for wire in found] == ["eth0", "eth1", "docker0"]
    assert found[2].unadvertised and found[2].unspoken
    assert joined == ["192.168.1.5"]
    assert around == "others cannot: dial out"


def test_nothing_is_joined_where_multicast_is_off_or_another_interface_is_chosen(joined: list[str]) -> None:
    wires.gather((), multicast=False)
    found, _ = wires.gather(("eth1",), multicast=True)
    assert joined == []
    assert "does not name it" in found[0].unspoken


def test_why_a_group_cannot_be_joined_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, *_: object) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr(socket.socket, "setsockopt", refuse)
    assert wires._join("192.168.1.5") == "No such device"
