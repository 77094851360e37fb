"""What is said by multicast DNS, and what is believed of what is heard."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.mesh.interfaces import Interface
from meshnode.mesh.records import Post, is_other_mesh, mesh_hash, posts, properties, read_record

MESH = mesh_hash(b"m" * 32)
POST = Post(
    "eth0",
    "192.168.1.5",
    (ip_address("192.168.1.5").packed,),
    (ip_network("192.168.1.0/24"), ip_network("fd12::/64")),
    frozenset({"192.168.1.5:6375", "[fd12::5]:6375"}),
)
SAID = properties(MESH)


def read(*addresses: str, port: int | None = 6375, said: dict[bytes, bytes | None] | None = None) -> tuple[str, ...]:
    packed = [ip_address(address).packed for address in addresses]
    return read_record(said if said is not None else dict(SAID), packed, port, MESH, POST)


def test_a_neighbour_of_the_mesh_is_taken_ipv4_first_and_two_addresses_at_most() -> None:
    assert read("fd12::9", "192.168.1.9") == ("192.168.1.9:6375", "[fd12::9]:6375")
    assert read("192.168.1.7", "192.168.1.8", "192.168.1.9") == ("192.168.1.7:6375", "192.168.1.8:6375")


@pytest.mark.parametrize(
    "address",
    [
        "192.168.2.9",
        "8.8.8.8",
        "192.168.1.0",
        "192.168.1.255",
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.251",
        "255.255.255.255",
        "169.254.1.1",
        "fe80::9",
        "::1",
        "::",
        "ff02::fb",
        "fd12::",
        "fd13::9",
        "2001:db8::9",
        "::ffff:192.168.1.9",
    ],
)
def test_an_address_that_is_no_neighbours_is_not_taken(address: str) -> None:
    assert read(address) == ()


def test_this_node_does_not_hear_itself_but_its_neighbour_on_the_same_machine() -> None:
    assert read("192.168.1.5", "fd12::5") == ()
    assert read("192.168.1.5", port=7000) == ("192.168.1.5:7000",)


@pytest.mark.parametrize("port", [None, 0, -1, 65_536])
def test_a_port_that_is_none_is_not_taken(port: int | None) -> None:
    assert read("192.168.1.9", port=port) == ()


@pytest.mark.parametrize(
    "said",
    [
        {},
        {b"v": b"1"},
        {b"m": MESH},
        {b"v": b"2", b"m": MESH},
        {b"v": b"1", b"m": None},
        {b"v": b"1", b"m": MESH[:-1]},
        {b"v": b"1", b"m": mesh_hash(b"n" * 32)},
        {**SAID, **{bytes([65 + n]): b"" for n in range(20)}},
    ],
)
def test_a_record_that_is_not_of_this_mesh_is_not_taken(said: dict[bytes, bytes | None]) -> None:
    assert read("192.168.1.9", said=said) == ()


def test_a_node_of_another_mesh_is_told_from_noise() -> None:
    assert is_other_mesh({b"v": b"1", b"m": mesh_hash(b"n" * 32)}, MESH)
    assert not is_other_mesh(dict(SAID), MESH)
    assert not is_other_mesh({b"m": None}, MESH)
    assert not is_other_mesh({b"m": b"longer than a hash is"}, MESH)


@given(
    st.dictionaries(
        st.binary(max_size=4) | st.sampled_from([b"v", b"m"]), st.none() | st.binary(max_size=300) | st.just(MESH)
    ),
    st.lists(st.binary(max_size=20) | st.ip_addresses(network="192.168.1.0/24").map(lambda a: a.packed), max_size=40),
    st.none() | st.integers(-1, 70_000),
    st.booleans(),
)
def test_whatever_is_heard_ends_in_neighbours_or_nothing(
    said: dict[bytes, bytes | None], addresses: list[bytes], port: int | None, ours: bool
) -> None:
    found = read_record({**said, **SAID} if ours else said, addresses, port, MESH, POST)
    assert len(found) <= 2
    for address in found:
        host, _, number = address.rpartition(":")
        assert any(ip_address(host.strip("[]")) in network for network in POST.networks)
        assert int(number) == port
        assert address not in POST.own


def test_nothing_of_the_mesh_but_a_hash_is_said() -> None:
    assert properties(MESH) == {b"v": b"1", b"m": MESH}
    assert len(MESH) == 16
    assert mesh_hash(b"n" * 32) != MESH


LAN = Interface("eth0", "lan", (ip_interface("192.168.1.5/24"), ip_interface("fd12::5/64")))
WIFI = Interface("wlan0", "lan", (ip_interface("10.0.0.5/8"),))
BRIDGE = Interface("docker0", "bridge", (ip_interface("172.17.0.1/16"),))


def test_each_spoken_interface_announces_its_own_addresses_and_knows_all_of_this_machine() -> None:
    lan, wifi = posts([LAN, WIFI, BRIDGE], (), "", 6375)
    assert lan.announced == tuple(address.ip.packed for address in LAN.addresses)
    assert wifi.announced == (ip_address("10.0.0.5").packed,)
    assert wifi.own == {"192.168.1.5:6375", "[fd12::5]:6375", "10.0.0.5:6375", "172.17.0.1:6375"}
    assert (lan.interface, lan.speaks_at, wifi.speaks_at) == ("eth0", "192.168.1.5", "10.0.0.5")


def test_only_addresses_that_are_listened_at_are_announced() -> None:
    assert [post.announced for post in posts([LAN], (), "0.0.0.0", 6375)] == [(ip_address("192.168.1.5").packed,)]
    assert [post.announced for post in posts([LAN, WIFI], (), "10.0.0.5", 6375)] == [
        (),
        (ip_address("10.0.0.5").packed,),
    ]
    assert [post.announced for post in posts([LAN], (), "", None)] == [()]
