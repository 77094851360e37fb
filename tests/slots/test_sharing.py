"""When a machine's owner gives, and to whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.config import load
from meshnode.errors import ConfigError
from meshnode.model.takes import Takes
from meshnode.slots.sharing import read_period, takes_at

ALL, OWN, NONE = Takes.EVERYBODYS, Takes.OWN, Takes.NOBODYS


@pytest.mark.parametrize(
    ("text", "day", "time", "takes"),
    [
        ("mon-fri 09:00-18:00", 0, "09:00", OWN),
        ("mon-fri 09:00-18:00", 4, "17:59", OWN),
        ("mon-fri 09:00-18:00", 4, "18:00", ALL),
        ("mon-fri 09:00-18:00", 5, "12:00", ALL),
        ("sat-mon 00:00-24:00 nobody", 0, "23:59", NONE),
        ("sat-mon 00:00-24:00 nobody", 1, "00:00", ALL),
        ("22:00-06:00", 3, "05:59", OWN),
        ("sun 22:00-06:00", 0, "05:59", OWN),
        ("sun 22:00-06:00", 6, "05:59", ALL),
    ],
)
def test_a_schedule_counts_in_local_time(text: str, day: int, time: str, takes: Takes) -> None:
    minute = int(time[:2]) * 60 + int(time[3:])
    assert takes_at((ALL,), [read_period(text)], day, minute) is takes


def test_the_strictest_word_counts() -> None:
    periods = [read_period("00:00-24:00 own")]
    assert takes_at((NONE, ALL), periods, 0, 0) is NONE
    assert takes_at((ALL,), periods, 0, 0) is OWN
    assert takes_at((ALL,), [], 0, 0) is ALL


@given(st.text(alphabet="monfri 0123456789:-ow", max_size=24))
def test_what_the_configuration_lets_through_can_be_read(text: str) -> None:
    try:
        load(flags={"sharing": {"schedule": (text,)}})
    except ConfigError:
        return
    read_period(text)


@pytest.mark.parametrize("text", ["", "mon", "25:00-26:00", "09:60-10:00", "moo 09:00-10:00", "09:00-10:00 some"])
def test_what_is_no_period_is_a_fault_of_the_configuration(text: str) -> None:
    with pytest.raises(ConfigError, match=r"sharing\.schedule"):
        load(flags={"sharing": {"schedule": (text,)}})
    with pytest.raises(ValueError, match=r"period|time|day"):
        read_period(text)
