"""The reference of the language model's stand-in: its `go_to` and `fill` lead a call as it says."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from backend.core.agent_text import inspect_agent
from backend.evals.mind import mind_of
from backend.evals.text_call import run_text
from backend.settings import load_settings
from backend.simulator.llm import LlmStandIn, running
from backend.simulator.llm_script import parse_llm_script
from backend.simulator.script import parse_script

TEXT = (Path(__file__).parents[3] / "docs" / "reference" / "llm-stand-in.md").read_text(encoding="utf-8")
SCRIPT, AGENT, RULES = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)


@contextmanager
def stand_in(script: dict[str, Any]) -> Iterator[str]:
    """It answers in a thread of its own: the call's time leaps."""
    there, over = threading.Event(), asyncio.Event()
    found: list[tuple[str, asyncio.AbstractEventLoop]] = []

    async def serve() -> None:
        async with running(LlmStandIn(parse_llm_script(script))) as url:
            found.append((url, asyncio.get_running_loop()))
            there.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    there.wait()
    url, loop = found[0]
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


def test_the_first_example_is_sound() -> None:
    assert len(parse_llm_script(json.loads(SCRIPT)).rules) == 5


def test_the_example_leads_a_call_through_go_to_and_fill() -> None:
    inspection = inspect_agent(AGENT, file="taxi.json")
    assert inspection.agent and not inspection.warnings, (inspection.errors, inspection.warnings)
    words = re.findall(
        r'"([^"]+)"', TEXT[TEXT.index("a caller who says ") : TEXT.index(" is led through it")]
    )
    quiet = {"wait_until_quiet": True, "quiet_ms": 1500}
    steps = [step for said in words for step in (quiet, {"say": said + "."})]
    with stand_in(json.loads(RULES)) as url:
        mind = mind_of(load_settings(None, openai_base_url=url, openai_api_key="any"), {})
        evidence = run_text(inspection.agent, parse_script({"steps": steps}), "inbound", {}, mind)
        told = httpx.get(f"{url.removesuffix('/v1')}/sim/requests", trust_env=False).json()
    assert evidence.call["nodes"] == ["welcome", "order", "done"]
    assert (evidence.call["variables"]["car"], evidence.call["variables"]["people"]) == ("van", "5")
    said = [turn["text"] for turn in evidence.call["turns"] if turn["role"] == "agent"]
    assert "A van, then. How many of you?" in said
    assert said[-1] == "A van for 5 is on its way. Goodbye."
    assert [asked["rule"] for asked in told] == [0, 4, 2, 1, 3]
