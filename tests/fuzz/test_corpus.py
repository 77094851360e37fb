"""Every target over its corpus and a bounded number of mutations of it, without a fuzzer: the same ones each time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz import targets
from tests.fuzz.kit import Draw, mutate

CORPUS = Path(__file__).parent / "corpus"
MUTATIONS = 2000
MOST_BYTES = 600
"""Of one file, and a dozen files a target: a corpus is read, not only kept."""

MOST_FILES = 16


@pytest.mark.parametrize("name", targets.names())
def test_the_corpus_and_its_neighbourhood(name: str) -> None:
    target = targets.load(name)
    files = sorted((CORPUS / name).iterdir())
    inputs = [file.read_bytes() for file in files]
    for file, data in zip(files, inputs, strict=True):
        assert target.one_input(data) is None, file
    rng = random.Random(name)
    for _ in range(MUTATIONS):
        target.one_input(mutate(rng.choice(inputs), Draw(rng.randbytes(24))))


@pytest.mark.parametrize("name", targets.names())
def test_the_corpus_holds_the_seeds_and_is_small(name: str) -> None:
    files = {file.name: file.read_bytes() for file in (CORPUS / name).iterdir()}
    assert len(files) <= MOST_FILES
    assert all(len(data) <= MOST_BYTES for data in files.values())
    seeds = targets.load(name).seeds()
    assert {seed: files.get(seed) for seed in seeds} == seeds, "run: python -m tests.fuzz.seed"
