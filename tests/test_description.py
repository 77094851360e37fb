"""What a node says of itself: anew when something has changed, and what it said is what it answers for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode import description
from meshnode.config import load
from meshnode.description import FIRST_SPEED_S, MEMORY_S, Description
from meshnode.engine import Memory
from meshnode.model.advert import Advert, Hardware, ModelOffer
from meshnode.model.takes import Takes
from meshnode.slots.speed import Speeds
from tests.gossip.world import MESH, node_id

ME = node_id(1)


class FakeNode(SimpleNamespace):
    """The rooms that a description reads; `said` is what went to the mesh."""

    def __init__(self) -> None:
        self.said: list[Advert] = []
        self.offers: tuple[ModelOffer, ...] = (ModelOffer("llama"),)
        super().__init__(
            id=ME,
            name="x" * 200,
            config=load(flags={"node": {"watts": 7}}),
            engines=SimpleNamespace(advertised=lambda: self.offers),
            proofs=SimpleNamespace(marked=lambda offers: offers, posture=lambda offers: "claimed"),
            local=SimpleNamespace(
                speeds=Speeds(),
                share=SimpleNamespace(takes=Takes.EVERYBODYS),
                draining=False,
            ),
            member=SimpleNamespace(
                membership=SimpleNamespace(mesh=SimpleNamespace(id=MESH)),
                addresses=("10.0.0.1:6375",), owner="ann", describe=self.said.append,
            ),
        )  # fmt: skip


@pytest.fixture
def node() -> Any:
    return FakeNode()


def seen(vram_bytes: int) -> Memory:
    return Memory(Hardware(vram_bytes=vram_bytes), 0, 0)


def test_it_tells_what_is_true_now(node: Any) -> None:
    made = Description(node, seen(5))
    made.tell()
    (told,) = node.said
    assert (told.node, told.mesh, told.addresses, told.owner, told.watts) == (
        ME, MESH, ("10.0.0.1:6375",), "ann", 7,
    )  # fmt: skip
    assert (told.models, told.hardware.vram_bytes, len(told.name)) == (node.offers, 5, 128)
    assert not (told.draining or told.paused or told.owner_only)
    node.local.draining = True
    made.tell()
    assert node.said[-1].draining


@pytest.mark.parametrize(("takes", "owner_only", "paused"), [(Takes.OWN, True, False), (Takes.NOBODYS, False, True)])
def test_whose_requests_are_taken_is_told(node: Any, takes: Takes, owner_only: bool, paused: bool) -> None:
    node.local.share.takes = takes
    Description(node, seen(0)).tell()
    assert (node.said[-1].owner_only, node.said[-1].paused) == (owner_only, paused)


def test_it_answers_for_what_it_told_and_not_for_what_is_new_since(node: Any) -> None:
    made = Description(node, seen(0))
    assert made.offer("llama") is None
    made.tell()
    node.offers = (ModelOffer("qwen"),)
    assert made.offer("llama") == ModelOffer("llama")
    assert made.offer("qwen") is None
    made.tell()
    assert made.offer("qwen") == ModelOffer("qwen")


async def test_the_first_speed_of_a_model_is_told_soon_and_later_ones_with_the_next_advert(
    node: Any, autojump_clock: MockClock
) -> None:
    made = Description(node, seen(0))
    made.tell()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        await trio.sleep(FIRST_SPEED_S + 1)
        assert len(node.said) == 1
        node.local.speeds.first_token("llama", 1.0, 0.25)
        await trio.sleep(FIRST_SPEED_S)
        assert len(node.said) == 2 and node.said[-1].models[0].prefill_ms == 250
        node.local.speeds.first_token("llama", 1.0, 25.0)
        await trio.sleep(FIRST_SPEED_S)
        assert len(node.said) == 2
        nursery.cancel_scope.cancel()


async def test_it_tells_again_once_an_advert_is_due_and_looks_at_memory_meanwhile(
    node: Any, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def look() -> Memory:
        nonlocal looks
        looks += 1
        return seen(looks)

    async def at_once(work: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work()

    monkeypatch.setattr(description, "memory", look)
    monkeypatch.setattr("trio.to_thread.run_sync", at_once)
    made = Description(node, seen(0))
    refresh_s = node.config.gossip.refresh_s
    with trio.move_on_after(2 * refresh_s + MEMORY_S / 2):
        await made.run()
    assert len(node.said) == 2
    assert looks == 2 * refresh_s // MEMORY_S
    assert 0 < node.said[-1].hardware.vram_bytes <= looks
