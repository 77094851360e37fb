"""How late is later than usual: known only of servers that were measured often."""

from __future__ import annotations

from meshnode.routing.measure import Flight, units_of
from meshnode.routing.usual import FEWEST, SERVERS, Usual
from tests.routing.build import node


def flight(number: int = 1, prompt: int = 0) -> Flight:
    return Flight(node(number), "m", prompt, 0.0)


def test_little_seen_is_not_known() -> None:
    usual = Usual(0.95)
    for _ in range(FEWEST - 1):
        usual.add(flight(), 1.0)
    assert usual.late_s(node(1), "m", units_of(0)) is None
    usual.add(flight(), 1.0)
    assert usual.late_s(node(1), "m", units_of(0)) == 1.0


def test_it_is_the_quantile_of_the_last_and_grows_with_the_prompt() -> None:
    usual = Usual(0.95)
    for tenth in range(1, 41):
        usual.add(flight(), tenth / 10)
    late_s = usual.late_s(node(1), "m", units_of(0))
    assert late_s is not None
    assert 3.8 <= late_s <= 4.0
    longer = usual.late_s(node(1), "m", units_of(1000))
    assert longer is not None
    assert abs(longer - late_s * units_of(1000) / units_of(0)) < 1e-9


def test_an_answer_in_one_piece_has_no_first_token() -> None:
    usual = Usual(0.95)
    for _ in range(FEWEST):
        usual.add(Flight(node(1), "m", 0, 0.0, whole=1.0), 1.0)
    assert not usual


def test_servers_are_bounded() -> None:
    usual = Usual(0.95)
    for number in range(SERVERS + 10):
        usual.add(flight(number), 1.0)
    assert len(usual) == SERVERS
