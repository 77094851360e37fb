from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.cli import words
from meshnode.cli.report import (
    DownloadReport,
    EngineReport,
    HardwareReport,
    MeshReport,
    ModelReport,
    PeerReport,
    read,
)
from meshnode.identity import Role
from tests.cli.conftest import STATUS


def test_the_headline_says_who_this_is() -> None:
    assert words.headline(read(STATUS)) == ' meshnode 0.1.0 · node "studio" (nq4f-7kta) · mesh "home" (3 nodes)'


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        (EngineReport("ollama", "ollama", "http://[::1]:11434", "ready", models=("a", "b")), "ollama @11434 a, b"),
        (EngineReport("vllm", "vllm", "http://h:8000", "down", "refused"), "vllm @8000 down (refused)"),
        (EngineReport("x@h:8000", "vllm", "http://h:8000", "down"), "x@h:8000 down"),
        (EngineReport("http://h:8000", "", "http://h:8000", "down"), "http://h:8000 down"),
        (EngineReport("embedded", "embedded", "http://127.0.0.1:4321", "ready", models=("m",)), "embedded m"),
        (EngineReport("embedded", "embedded", "", "loading", progress=DownloadReport(61, 100)), "embedded loading 61%"),
    ],
)
def test_an_engine_in_words(engine: EngineReport, text: str) -> None:
    assert words.engine(engine) == text


def test_a_machine_without_a_gpu_says_so() -> None:
    assert words.machine(HardwareReport(memory_bytes=2**34, free_bytes=2**29)).startswith("none found; 16 GB")


def test_a_path_names_the_relay() -> None:
    assert words.path(PeerReport(state="direct")) == "direct"
    assert words.path(PeerReport(state="relay", via="cellar")) == "relay via cellar"


NOW = 1_700_000_000
"""2023-11-14T22:13:20Z."""


@pytest.mark.parametrize(
    ("until", "said"),
    [
        (None, ""),
        ("2023-11-30T00:00:00+00:00", ""),
        ("2023-11-17T22:13:20+00:00", "; this node's certificate ends in 3 d: a new invite renews it"),
        ("2023-11-17T22:13:20", "; this node's certificate ends in 3 d: a new invite renews it"),
        ("2023-11-14T21:00:00+00:00", "; this node's certificate has ended: a new invite renews it"),
        ("some day", ""),
    ],
)
def test_a_certificate_is_spoken_of_when_it_ends_soon(until: str | None, said: str) -> None:
    assert words.trust(MeshReport(trust="ca", member_until=until), NOW) == words.TRUST["ca"] + said


def test_roles_are_told_by_what_they_allow() -> None:
    assert words.roles(["client", "serve"]) == "be given jobs (serve), have its own jobs done (client)"
    assert words.roles([]) == "nothing"
    assert set(words.ROLES) == set(Role)


@given(st.integers(1, 86_400))
@settings(deadline=None, max_examples=50)
def test_seconds_and_their_units_agree(count: int) -> None:
    assert words.duration_s(str(count)) == words.duration_s(f"{count}s") == count
    if count <= 24:
        assert words.duration_s(f"{count}h") == words.duration_s(f"{count * 60}m")


@given(st.floats(allow_nan=False))
@settings(deadline=None, max_examples=50)
def test_a_bar_is_as_wide_as_any_other(share: float) -> None:
    drawn = words.bar(share, width=10).split()[0]
    assert len(drawn) == 10


def test_the_model_to_try_can_chat_and_is_loaded() -> None:
    loaded = read({"node": {}, "models": [{"name": "x", "nodes": [{"loaded": True}]}]}).models[0].nodes
    models = [
        ModelReport("embedder", features=("embeddings",), nodes=loaded),
        ModelReport("cold", features=("chat",)),
        ModelReport("warm", features=("chat",), nodes=loaded),
    ]
    assert words.first_model(models).name == "warm"


def test_a_path_names_everybody_on_the_way() -> None:
    assert words.path(PeerReport(state="direct", path=("a", "b"))) == "direct"
    assert words.path(PeerReport(state="relay", via="b", path=("a", "b", "c", "d"))) == "relay via b > c"
    assert words.path(PeerReport(state="relay", via="b")) == "relay via b"
    assert words.path(PeerReport(state="gone")) == "gone"
