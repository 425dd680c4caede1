"""Calls heard by others than this machine, end to end: the carrier, and ElevenLabs' stand-in."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import uvicorn

from backend.simulator.call_run import run_inbound
from backend.simulator.elevenlabs import create_app, server_config
from backend.simulator.elevenlabs_account import Account
from backend.simulator.elevenlabs_voice import VendorVoice
from backend.simulator.stack import Stack, StackConfig
from backend.stt.local import LocalTranscriber
from tests.words import errors_within

CALLER = "+15550100077"
NUMBERS = {"telnyx": "+15550100021", "elevenlabs": "+15550100022"}


def agent(provider: str) -> dict[str, Any]:
    wish = {"id": "wish", "say": "What would you like?"}
    table = {"to": "table", "when": {"keywords": ["a table for two"]}}
    done = {"id": "table", "say": "A table for two it is. Goodbye.", "actions": [{"type": "hangup"}]}
    return {
        "id": provider,
        "name": provider,
        "phone_numbers": [NUMBERS[provider]],
        "stt": {"provider": provider, "timeout_ms": 5000},
        "call_flow": {"start": "wish", "nodes": [wish | {"transitions": [table]}, done]},
    }


@asynccontextmanager
async def elevenlabs() -> AsyncIterator[str]:
    ears = LocalTranscriber()
    app = create_app(Account(), cast(VendorVoice, None), ears=ears)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(server_config(app))
        server.capture_signals = contextmanager(lambda: iter([None]))  # type: ignore[method-assign]
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
            ears.close()


async def test_callers_are_heard_by_the_carrier_and_by_elevenlabs(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    for provider in NUMBERS:
        (tmp_path / "agents" / f"{provider}.json").write_text(json.dumps(agent(provider)))
    script = {
        "steps": [
            {"wait_for": "what would you like"},
            {"say": "I would like to book a table for two, please."},
            {"wait_for": "goodbye"},
        ]
    }
    async with asyncio.timeout(150), elevenlabs() as url:
        vendor = {"ELEVENLABS_API_KEY": "local-key", "ELEVENLABS_BASE_URL": url}
        config = StackConfig(run_dir=tmp_path / "run", agents_dir=tmp_path / "agents", settings=vendor)
        async with Stack(config) as stack:
            async with asyncio.TaskGroup() as calls:
                placed = {
                    provider: calls.create_task(
                        run_inbound(stack, to=number, from_number=CALLER, script=script)
                    )
                    for provider, number in NUMBERS.items()
                }
            for provider, call in placed.items():
                evidence = call.result()
                said = [turn["text"] for turn in evidence.call["turns"] if turn["role"] == "caller"]
                assert errors_within("book a table for two", " ".join(said)) <= 1, (provider, said)
                assert evidence.call["hangup_source"] != "caller", provider
            health = (await stack.backend.get("/api/v1/health")).json()
            rows = {row["name"]: row for row in health["hearing"]}
            assert rows["telnyx"]["state"] == "up", rows
            assert rows["elevenlabs"]["state"] == "up", rows
            assert rows["local"]["detail"] == "not asked yet", rows
            metrics = (await stack.backend.get("/metrics")).text
            for provider in NUMBERS:
                assert f'voice_hearing_requests_total{{outcome="ok",route="{provider}"}}' in metrics
