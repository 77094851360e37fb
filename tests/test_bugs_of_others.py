"""Bugs that other meshes had, and the tests here that would find each of them: an index for whoever looks for one.

Most are ordinary tests of the room where such a bug would live. `test_every_test_is_there` keeps the index true.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BUGS = {
    "load swings with the period of gossip, until own requests under way count": (
        "tests/routing/test_oscillation.py::test_between_two_words_on_load_no_server_is_rushed",
        "tests/routing/test_plan.py::test_own_requests_under_way_send_the_next_ones_elsewhere",
    ),
    "slots are lost when clients leave": (
        "tests/dispatch/test_leaving.py::test_leaving_at_any_step_gives_the_slot_back",
        "tests/dispatch/test_leaving.py::test_leaving_the_queue_at_the_moment_a_slot_is_given_loses_none",
        "tests/dispatch/test_dispatcher.py::test_a_client_that_leaves_frees_the_engine_across_two_hops",
        "tests/engine/test_client.py::test_cancelling_in_prefill_frees_the_engines_slot",
        "tests/world/test_cancel.py::test_the_slot_is_free_within_a_tenth_of_a_second",
        "tests/real/test_failures.py::test_a_client_that_leaves_frees_the_slot_two_hops_away",
    ),
    "a client that leaves while the model loads makes the next one wait from the start": (
        "tests/dispatch/test_loads.py::test_a_client_that_leaves_does_not_undo_the_load",
        "tests/dispatch/test_loads.py::test_a_load_that_nobody_waits_for_ends_in_bounded_time",
    ),
    "descriptors stay in CLOSE-WAIT": (
        "tests/front/test_pieces.py::test_no_connection_stays_when_its_client_is_gone",
        "tests/engine/test_client.py::test_pruning_closes_only_what_the_engine_has_ended",
    ),
    "a peer is removed because its name is part of another's": (
        "tests/world/test_silence.py::test_a_node_whose_name_is_part_of_anothers_goes_alone",
        "tests/front/test_naming.py::test_a_part_of_a_name_means_nobody",
        "tests/front/test_naming.py::test_a_node_that_takes_anothers_id_for_a_name_is_never_meant_by_it",
    ),
    "a breaker never closes": (
        "tests/dispatch/test_blame.py::test_a_server_that_mended_is_believed_again",
        "tests/routing/test_recovery.py::test_breakers_close_within_a_minute_after_the_faults_stop",
        "tests/routing/test_router.py::test_a_probe_that_ends_well_twice_closes_the_breaker",
    ),
    "a short first TCP segment is misread": (
        "tests/front/test_pieces.py::test_a_request_in_small_segments_is_the_same_request",
        "tests/noise/test_handshake.py::test_any_cut_of_the_wire_gives_the_same",
        "tests/net/test_handshake.py::test_a_first_record_in_pieces_is_waited_for_whole",
    ),
    "headers that come twice lose one": ("tests/engine/test_client.py::test_headers_that_come_again_are_one_list",),
    "a character cut in two is replaced, and what follows moves": (
        "tests/dispatch/test_bytes.py::test_characters_cut_in_two_arrive_as_they_left",
        "tests/front/test_handlers.py::test_bytes_are_copied_verbatim",
        "tests/test_chat.py::test_texts_come_whole_however_the_bytes_are_cut",
    ),
    "a good head that an abort follows is a success to the breaker": (
        "tests/dispatch/test_blame.py::test_an_answer_that_breaks_after_a_good_head_counts_against_its_server",
    ),
    "a silent peer holds a slot for ever": (
        "tests/world/test_silence.py::test_a_peer_that_vanishes_in_mid_answer_gives_its_slot_back",
        "tests/world/test_silence.py::test_a_peer_that_never_reads_its_answer_gives_the_slot_back",
        "tests/world/test_silence.py::test_a_peer_that_never_sends_its_body_holds_nothing_longer_than_it_asked",
        "tests/dispatch/test_dispatcher.py::test_a_stream_that_falls_silent_is_ended_with_its_own_error",
    ),
    "one peer's broken connection ends the process": (
        "tests/mesh/test_peers.py::test_a_crash_at_a_dialled_link_ends_that_link_only",
        "tests/net/test_listen.py::test_a_crash_with_one_peer_is_not_the_next_ones",
        "tests/net/test_listen.py::test_strangers_read_nothing_and_harm_nobody",
        "tests/dispatch/test_inbound.py::test_headers_that_make_no_sense_are_refused_and_harm_nobody",
    ),
    "a dead server looks least busy and draws everything": (
        "tests/routing/test_score.py::test_a_failing_full_or_hanging_server_never_looks_better_than_before",
        "tests/routing/test_measure.py::test_failing_fast_is_not_being_fast",
        "tests/routing/test_plan.py::test_being_free_is_no_merit_of_an_engine_that_fails",
    ),
    "joining keeps the local API waiting": (
        "tests/test_silent_peers.py::test_a_node_answers_its_own_clients_while_its_peers_say_nothing",
    ),
    "addresses of container bridges and 0.0.0.0 are advertised": (
        "tests/mesh/test_interfaces.py::test_only_lan_tunnel_and_public_addresses_are_told_and_multicast_is_for_the_lan",
        "tests/mesh/test_addresses.py::test_a_bind_address_is_never_told_nor_bridges_loopback_or_what_is_down",
        "tests/real/test_network.py::test_a_container_bridge_is_not_advertised",
    ),
    "each restart makes a new identity": (
        "tests/test_node.py::test_the_identity_outlives_a_restart_and_the_run_file_does_not",
        "tests/keep/test_home.py::test_a_lost_key_is_not_silently_replaced",
        "tests/real/test_up.py::test_a_node_keeps_its_id",
    ),
    "one peer that is off keeps the list of models waiting": (
        "tests/world/test_silence.py::test_one_offline_peer_hides_no_model_of_others_and_delays_no_list",
        "tests/test_silent_peers.py::test_a_node_answers_its_own_clients_while_its_peers_say_nothing",
    ),
    "turning keys on breaks what is inside": (
        "tests/world/test_api_keys.py::test_with_keys_on_everything_inside_goes_on",
        "tests/cli/test_daemon.py::test_a_node_that_asks_for_a_key_is_shown_the_secret_then",
    ),
}  # fmt: skip


def defined(file: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)}


@pytest.mark.parametrize("bug", BUGS)
def test_every_test_is_there(bug: str) -> None:
    assert BUGS[bug]
    for named in BUGS[bug]:
        file, _, test = named.partition("::")
        assert test in defined(ROOT / file), named
