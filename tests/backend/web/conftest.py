"""The API over the real store and agent files, with a small set of live calls in memory behind it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from backend.core.health import RouteHealth
from backend.core.llm_health import LlmHealth
from backend.core.records import CallRecord
from backend.errors import CallGone, CarrierError, RequestError
from backend.storage.agent_files import AgentFiles
from backend.storage.calls import CallStore
from backend.telnyx.webhooks import SeenEvents, TelnyxEvent
from backend.web.agents import agents_router
from backend.web.auth import Guard, make_guard
from backend.web.calls import calls_router
from backend.web.errors import install_error_handlers
from backend.web.health import health_router
from backend.web.metrics import Metrics, metrics_router
from backend.web.pages import pages_router

LOCAL = "http://127.0.0.1:8080"

AGENT: dict[str, Any] = {
    "id": "front-desk",
    "name": "Front desk",
    "phone_numbers": ["+15550100002"],
    "greeting": "Good morning, {{name}}.",
    "variables": {"name": "friend"},
    "call_flow": {
        "start": "hello",
        "nodes": [{"id": "hello", "say": ["Goodbye."], "actions": [{"type": "hangup"}]}],
    },
}


class LiveCalls:
    """Calls that never ring: what the API asks of them is kept, and told as the real ones tell it."""

    def __init__(self, store: CallStore) -> None:
        self.store = store
        self.seen = SeenEvents()
        self.events: list[TelnyxEvent] = []
        self.orders: list[tuple[Any, ...]] = []
        self.routes: list[RouteHealth] = [RouteHealth("sesame_ws", "up", "works", 3.5, "http://pod-1")]
        self.models: list[LlmHealth] = []
        self.failure: Exception | None = None
        self.live_calls = 2

    def accept_event(self, event: TelnyxEvent) -> bool:
        self.events.append(event)
        return self.seen.is_new(event.id)

    async def place_call(
        self,
        *,
        agent_id: str,
        to: str,
        from_number: str | None,
        variables: Mapping[str, str],
        idempotency_key: str | None,
    ) -> CallRecord:
        if self.failure:
            raise self.failure
        if agent_id.lower() != "front-desk":
            raise RequestError(f"there is no agent {agent_id!r}", status=404, code="unknown_agent")
        self.orders.append(("place", to))
        call = CallRecord(
            id=f"call_{len(self.orders)}",
            direction="outbound",
            agent_id="front-desk",
            from_number=from_number or "+15550100001",
            to_number=to,
            state="queued",
            created_at=datetime.now(UTC),
            variables=dict(variables),
            idempotency_key=idempotency_key,
        )
        return await self.store.create(call)

    async def _live(self, any_id: str) -> str:
        if self.failure:
            raise self.failure
        call = await self.store.get(any_id)
        if call is None:
            raise RequestError(f"there is no call {any_id!r}", status=404, code="unknown_call")
        if call.state == "ended":
            raise RequestError(f"call {any_id!r} is ended", status=409, code="call_over")
        return call.id

    async def hangup(self, any_id: str) -> None:
        self.orders.append(("hangup", await self._live(any_id)))

    async def transfer(self, any_id: str, to: str) -> None:
        self.orders.append(("transfer", await self._live(any_id), to))

    async def send_dtmf(self, any_id: str, digits: str) -> None:
        self.orders.append(("dtmf", await self._live(any_id), digits))

    async def say(self, any_id: str, text: str, *, interrupt: bool) -> None:
        self.orders.append(("say", await self._live(any_id), text, interrupt))

    async def health(self) -> list[RouteHealth]:
        if self.failure:
            raise self.failure
        return self.routes


class Carrier:
    """A carrier that takes the key, or says why not."""

    failure: CarrierError | None = None
    asked = 0

    async def check(self) -> None:
        self.asked += 1
        if self.failure:
            raise self.failure


@dataclasses.dataclass
class Backend:
    app: FastAPI
    store: CallStore
    manager: LiveCalls
    carrier: Carrier
    metrics: Metrics
    files: AgentFiles

    def client(self, base_url: str = LOCAL, **headers: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url=base_url, headers=headers)


async def _backend(folder: Path, guard: Guard, *, telnyx: bool) -> Backend:
    (folder / "agents").mkdir()
    (folder / "agents" / "front-desk.json").write_text(json.dumps(AGENT))
    files = AgentFiles(folder / "agents")
    files.load()
    store = await CallStore.open(f"sqlite:///{folder}/calls.sqlite3")
    manager, carrier, metrics, app = LiveCalls(store), Carrier(), Metrics(), FastAPI()
    install_error_handlers(app)
    app.include_router(calls_router(manager, store, files, guard))
    app.include_router(agents_router(files, guard))
    app.include_router(
        health_router(
            manager,
            manager,
            store,
            carrier if telnyx else None,
            guard,
            version="1.2.3",
            thinking=lambda: manager.models,
            problems=lambda: [str(problem) for problem in files.problems],
            voices=lambda: {"front-desk": "sesame_ws → telnyx"},
        )
    )
    app.include_router(metrics_router(metrics))
    app.include_router(pages_router(version="1.2.3"))
    return Backend(app, store, manager, carrier, metrics, files)


@pytest.fixture
async def backend(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    """Bound to loopback and without a key; parametrised indirectly: `{"key": …, "telnyx": False}`."""
    options = getattr(request, "param", {})
    guard = make_guard(api_key=options.get("key"), host="127.0.0.1")
    backend = await _backend(tmp_path, guard, telnyx=options.get("telnyx", True))
    yield backend
    await backend.store.close()


@pytest.fixture
async def client(backend: Backend) -> AsyncIterator[httpx.AsyncClient]:
    async with backend.client() as client:
        yield client


@pytest.fixture
def gone() -> CallGone:
    return CallGone("Telnyx did not hang up the call: the call has already ended.", status=422, code="90018")
