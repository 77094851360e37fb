"""A fake engine on a real socket, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import platformdirs
import pytest
import trio

from meshnode.engine.client import EngineClient
from meshnode.engine.models import SMOLLM2, ModelStore
from meshnode.testing import FakeEngine
from tests.engine.wire import Scripted

Script = Callable[..., Awaitable[tuple[Scripted, EngineClient]]]


@pytest.fixture
async def fake(nursery: trio.Nursery) -> FakeEngine:
    engine = FakeEngine()
    await nursery.start(engine.run)
    return engine


@pytest.fixture
async def client(fake: FakeEngine) -> AsyncIterator[EngineClient]:
    made = EngineClient(fake.url)
    yield made
    made.close()


@pytest.fixture
async def scripted(nursery: trio.Nursery) -> AsyncIterator[Script]:
    """`await scripted([bytes, …], […], linger=False)`: a server of these scripts and a client of it."""
    made: list[EngineClient] = []

    async def start(*scripts: list[bytes], linger: bool = False) -> tuple[Scripted, EngineClient]:
        server = Scripted(*scripts, linger=linger)
        await nursery.start(server.run)
        made.append(EngineClient(f"http://127.0.0.1:{server.port}"))
        return server, made[-1]

    yield start
    for client in made:
        client.close()


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """Where the embedded model lies between test runs, fetched by the code under test when it is not there."""
    folder = Path(platformdirs.user_cache_dir("meshnode")) / "models"
    trio.run(ModelStore(folder).fetch, SMOLLM2)
    return folder
