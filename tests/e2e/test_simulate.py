"""`voice-agent simulate` with the settings of a real deployment beside it: it uses the language model and the
secrets, and leaves the real carrier, the database and the log alone."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from backend.simulator.llm import LlmStandIn, running
from backend.simulator.llm_script import LlmScript

ROOT = Path(__file__).parents[2]
KEYS = {"TELNYX_API_KEY": "KEYc4n4ry-telnyx-9x", "CRM_KEY": "c4n4ry-crm-9x", "OPENAI_API_KEY": "c4n4ry-ai-9x"}
REPLIES = {
    "rules": [
        {"when": {"user": "umbrella"}, "reply": "We have it in blue and in green."},
        {"when": {}, "reply": "What are you looking for?"},
    ]
}


def agent() -> dict[str, Any]:
    help_ = {
        "id": "help",
        "prompt": "Find out what callers look for.",
        "say": "Sorry, the shop is closed.",
        "tools": ["stock"],
        "actions": [{"type": "webhook", "url": "http://127.0.0.1:9/hook"}],
        "transitions": [{"to": "bye", "when": {"keywords": ["bye"]}}],
    }
    bye = {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]}
    return {
        "id": "shop",
        "name": "Shop",
        "phone_numbers": ["+15550100031"],
        "tts_provider": "sesame",
        "llm": {"provider": "openai", "model": "m"},
        "tools": [{
            "name": "stock", "description": "What there is.", "url": "http://127.0.0.1:9/stock",
            "headers": {"Authorization": "Bearer {{secret:CRM_KEY}}"},
        }],
        "call_flow": {"start": "help", "nodes": [help_, bye]},
    }  # fmt: skip


async def test_simulate_runs_the_agent_as_serve_would_and_reaches_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "shop.json").write_text(json.dumps(agent()))
    steps = [
        {"wait_for": "looking for", "timeout_ms": 20_000},
        {"say": "I am looking for an umbrella."},
        {"wait_for": "green", "timeout_ms": 20_000},
        {"hang_up": True},
    ]
    (tmp_path / "caller.json").write_text(json.dumps({"steps": steps}))
    reached: list[str] = []

    async def telnyx(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append("the real carrier")
        writer.close()

    script = LlmScript.model_validate(REPLIES)
    async with (
        running(LlmStandIn(script)) as model,
        await asyncio.start_server(telnyx, "127.0.0.1", 0) as real,
    ):
        port = real.sockets[0].getsockname()[1]
        lines = {
            **KEYS, "AGENT_SECRETS": "CRM_KEY,MISSING_KEY", "OPENAI_BASE_URL": model,
            "TELNYX_BASE_URL": f"http://127.0.0.1:{port}/v2", "TELNYX_FROM_NUMBER": "+15550100099",
            "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/real.sqlite3",
            "PROMPTS_DIR": str(tmp_path / "real-prompts"), "LOG_LEVEL": "DEBUG",
        }  # fmt: skip
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        out = await simulated(tmp_path)
    assert "We have it in blue and in green." in out
    assert "its tools are real: whenever one is used, its request is sent (stock)" in out
    assert "its webhook actions are real" in out
    assert "webhook at 127.0.0.1 cannot be reached" in out
    assert reached == []
    assert not (tmp_path / "real.sqlite3").exists() and not (tmp_path / "real-prompts").exists()
    runs = [folder for folder in (tmp_path / "simulate-out").iterdir() if not folder.is_symlink()]
    assert [(tmp_path / "simulate-out" / "latest").resolve()] == runs
    texts = [file.read_bytes().decode("latin-1") for file in runs[0].rglob("*") if file.is_file()]
    assert not [key for key in KEYS.values() if any(key in text for text in [out, *texts])]


async def simulated(folder: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "backend.cli", "simulate", "--agent", "shop", "--script", "caller.json"),
        "--lenient-latency",
        cwd=folder, env={**clean, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(150):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return " ".join(out.decode().split())
