"""Measurements: peaks count at once and fade, silence and failure count, nothing leaks."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.routing.measure import Measurements, PeakAverage, Record, whole_units
from meshnode.slots import Load
from tests.routing.build import SECTION, node

PROMPT = 750  # one unit: 0.75 thousand tokens and the base of 0.25


def record_of(measurements: Measurements, now: float, number: int = 1) -> Record:
    record = measurements.of("llama")[node(number)]
    record.refresh(now)
    return record


def answered(measurements: Measurements, now: float, first_s: float, token_s: float = 0.02) -> None:
    flight = measurements.started(node(1), "llama", PROMPT, now)
    measurements.first_token(flight, now + first_s)
    measurements.finished(flight, 101, now + first_s + 100 * token_s)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.floats(0.001, 100), st.floats(0, 60)), min_size=1, max_size=20))
def test_a_peak_counts_at_once_and_fades_no_lower_than_the_usual(samples: list[tuple[float, float]]) -> None:
    now = 0.0
    average = PeakAverage(samples[0][0], now, 10.0)
    for sample, pause in samples:
        before = average.read(now)
        average.add(sample, now)
        assert average.read(now) >= max(sample, before) - 1e-9
        assert average.read(now + pause) <= average.read(now) + 1e-9
        assert average.read(now + pause) >= average.usual - 1e-9
        now += pause
    lowest, highest = min(s for s, _ in samples), max(s for s, _ in samples)
    assert lowest - 1e-9 <= average.read(now) <= highest + 1e-9
    assert abs(average.read(now + 1000) - average.usual) < 1e-6


def test_learns_time_to_first_token_by_prompt_and_pace() -> None:
    measurements = Measurements(SECTION)
    answered(measurements, 0.0, 0.5)
    record = record_of(measurements, 3.0)
    assert record.per_unit_s is not None and abs(record.per_unit_s - 0.5) < 1e-9
    assert record.per_token_s is not None and abs(record.per_token_s - 0.02) < 1e-9
    assert record.outstanding == 0


def test_an_answer_without_a_first_byte_of_its_own_is_timed_whole() -> None:
    measurements = Measurements(SECTION)
    measurements.finished(measurements.started(node(1), "llama", PROMPT, 0.0), 0, 2.0)
    assert record_of(measurements, 2.0).per_unit_s == 2.0


def test_streams_and_answers_in_one_piece_are_known_apart() -> None:
    measurements = Measurements(SECTION)
    answered(measurements, 0.0, 0.5)
    size = whole_units(PROMPT, 16)
    measurements.first_token(measurements.started(node(1), "llama", PROMPT, 10.0, whole=size), 14.0)
    record = record_of(measurements, 14.0)
    assert (record.answered_unit_s, record.whole_unit_s, size) == (0.5, 2.0, 2.0)


def test_failing_fast_is_not_being_fast() -> None:
    measurements = Measurements(SECTION)
    answered(measurements, 0.0, 0.5)
    for _ in range(5):
        measurements.failed(measurements.started(node(1), "llama", PROMPT, 5.0), 5.001)
    record = record_of(measurements, 5.001)
    assert record.per_unit_s is not None and record.per_unit_s >= 0.5
    assert record.tries > 4
    assert record_of(measurements, 300.0).tries < 1.01


def test_own_requests_count_until_each_has_ended_once() -> None:
    measurements = Measurements(SECTION)
    flights = [measurements.started(node(1), "llama", PROMPT, float(at)) for at in range(3)]
    assert record_of(measurements, 3.0).outstanding == 3
    assert record_of(measurements, 3.0).waited_s(3.0) == 3.0
    measurements.cancelled(flights[0], 3.0)
    measurements.cancelled(flights[0], 3.0)
    measurements.failed(flights[0], 3.0)
    assert record_of(measurements, 3.0).outstanding == 2
    assert record_of(measurements, 3.0).waited_s(3.0) == 2.0
    measurements.refused(flights[1], 4.0, 3.0)
    measurements.first_token(flights[2], 3.0)
    measurements.finished(flights[2], 5, 4.0)
    record = record_of(measurements, 4.0)
    assert (record.outstanding, record.waited_s(4.0), record.reported_until) == (0, 0.0, 7.0)


def test_a_client_that_gives_up_on_a_silent_server_leaves_a_trace() -> None:
    measurements = Measurements(SECTION)
    answered(measurements, 0.0, 0.5)
    measurements.cancelled(measurements.started(node(1), "llama", PROMPT, 10.0), 10.1)
    quick = record_of(measurements, 10.1).per_unit_s
    measurements.cancelled(measurements.started(node(1), "llama", PROMPT, 10.0), 40.0)
    slow = record_of(measurements, 40.0).per_unit_s
    assert quick is not None and quick < 0.51
    assert slow is not None and slow >= 30.0


def test_a_new_server_that_keeps_impatient_clients_waiting_is_not_new_any_more() -> None:
    measurements = Measurements(SECTION)
    measurements.cancelled(measurements.started(node(1), "llama", PROMPT, 0.0), 0.1)
    assert record_of(measurements, 0.1).per_unit_s is None, "nothing was to be expected so soon"
    measurements.cancelled(measurements.started(node(1), "llama", PROMPT, 10.0), 21.0)
    learnt = record_of(measurements, 21.0).per_unit_s
    assert learnt is not None and learnt >= 11.0


def test_a_reported_free_slot_takes_an_older_wait_back() -> None:
    measurements = Measurements(SECTION)
    measurements.reported(node(1), "llama", Load(0, 4, 2, 9.0), 0.0)
    assert record_of(measurements, 0.0).reported_until == 9.0
    measurements.reported(node(1), "llama", Load(1, 3, 0, 9.0), 1.0)
    assert record_of(measurements, 1.0).reported_until == 1.0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60))
def test_the_table_is_bounded_and_keeps_what_is_under_way(events: list[tuple[int, bool]]) -> None:
    measurements = Measurements(dataclasses.replace(SECTION, measured=3))
    flying = []
    for at, (number, end) in enumerate(events):
        flight = measurements.started(node(number), "llama", PROMPT, float(at))
        if end:
            measurements.finished(flight, 10, at + 0.5)
        else:
            flying.append(flight)
        assert len(measurements) <= 3 + len({flight.node for flight in flying})
        for flight in flying:
            assert measurements.of("llama")[flight.node].outstanding > 0
    for flight in flying:
        measurements.cancelled(flight, 100.0)
    assert all(record.outstanding == 0 for record in measurements.of("llama").values())


def test_a_refusal_counts_a_while_whatever_the_server_says_after_it() -> None:
    measurements = Measurements(SECTION)
    measurements.refused(measurements.started(node(1), "llama", PROMPT, 0.0), 30.0, 0.0)
    measurements.reported(node(1), "llama", Load(2, 0, 0, 0.0), 0.5)
    assert record_of(measurements, 0.5).reported_until == 2.0
    measurements.reported(node(1), "llama", Load(2, 0, 0, 0.0), 3.0)
    assert record_of(measurements, 3.0).reported_until <= 3.0


def test_a_reported_wait_is_bounded_and_idleness_makes_no_record() -> None:
    measurements = Measurements(SECTION)
    measurements.reported(node(1), "llama", Load(2, 0, 0, 0.0), 0.0)
    assert len(measurements) == 0
    measurements.reported(node(1), "llama", Load(0, 2, 9, 86_400.0), 0.0)
    assert record_of(measurements, 0.0).reported_until == 60.0
