"""Which routes an agent hears by, and that a key goes only where it belongs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from backend.calls.boards.ears_board import EarsBoard
from backend.calls.ports import Transcriber
from backend.core.agent import Agent
from backend.core.hearing import CarrierHearing
from backend.errors import ConfigError, HearingError
from backend.hearing_routes import HearingRoutes
from backend.settings import load_settings
from backend.stt.absent import AbsentTranscriber
from backend.stt.elevenlabs import ElevenLabsTranscriber
from tests.backend.stt.openai_server import free_port, transcription_server

AUDIO = bytes(8000)


class Local:
    async def transcribe(self, pcm16_8k: bytes) -> str:
        return "from here"


def agent(language: str = "en-US", **stt: Any) -> Agent:
    bye = {"id": "bye", "say": "Bye.", "actions": [{"type": "hangup"}]}
    flow = {"start": "bye", "nodes": [bye]}
    text = {"id": "a", "name": "A", "language": language, "stt": stt, "call_flow": flow}
    return Agent.model_validate_json(json.dumps(text))


@asynccontextmanager
async def routes(
    *agents: Agent, local: Transcriber | None = None, **settings: Any
) -> AsyncIterator[HearingRoutes]:
    now_ms = 0.0
    made = HearingRoutes(
        load_settings(None, **settings),
        EarsBoard(lambda: now_ms),
        lambda: agents,
        lambda: now_ms,
        local or Local(),
    )
    try:
        yield made
    finally:
        await made.aclose()


async def start(_: CarrierHearing) -> None: ...


def names(made: HearingRoutes, agent: Agent) -> list[str]:
    return [plan.key.name for plan in made.plans(agent)]


async def test_the_local_recogniser_is_the_last_in_english_alone() -> None:
    async with routes(openai_api_key="sk-1") as made:
        assert names(made, agent()) == ["local"]
        assert names(made, agent(provider="openai")) == ["openai", "local"]
        assert names(made, agent(provider="local", fallbacks=["openai"])) == ["local", "openai"]
        assert names(made, agent("de-DE", provider="openai")) == ["openai"]


async def test_elevenlabs_wants_its_key(caplog: pytest.LogCaptureFixture) -> None:
    async with routes() as made:
        assert names(made, agent(provider="elevenlabs")) == ["local"]
        assert "without elevenlabs: ELEVENLABS_API_KEY is not set" in caplog.text
    async with routes(elevenlabs_api_key="k", elevenlabs_base_url="http://127.0.0.1:9") as made:
        one = agent(provider="elevenlabs", key_terms=["Kowalski"])
        assert names(made, one) == ["elevenlabs", "local"]
        ears = [made.plans(one)[0].make(start) for _ in range(2)]
        assert ears[0] is not ears[1], "each call has its own connection"
        assert all(isinstance(ear, ElevenLabsTranscriber) for ear in ears)
        assert "keyterms=Kowalski" in ears[0].url  # type: ignore[attr-defined]


async def test_a_missing_key_is_told_once_and_the_route_left_out(caplog: pytest.LogCaptureFixture) -> None:
    async with routes() as made:
        assert [names(made, agent(provider="openai")) for _ in range(2)] == [["local"]] * 2
        assert [record.getMessage() for record in caplog.records] == [
            "agent a hears without openai: OPENAI_API_KEY is not set: set it, or stt.base_url in the agent's "
            "file; local hears first"
        ]


async def test_an_agent_that_nothing_hears_is_told_loudly(caplog: pytest.LogCaptureFixture) -> None:
    async with routes() as made:
        assert names(made, agent("de-DE", provider="openai")) == ["local"]
        assert "callers will not be understood" in caplog.text


@pytest.mark.parametrize(
    ("settings", "sent"),
    [({}, None), ({"openai_api_key": "sk-openai"}, None), ({"stt_api_key": "sk-stt"}, "bearer sk-stt")],
)
async def test_the_openai_key_does_not_go_to_another_server(
    settings: dict[str, str], sent: str | None
) -> None:
    async with transcription_server() as server, routes(**settings) as made:
        one = agent(provider="openai", base_url=server.url, model="large", key_terms=["Hello There"])
        assert await made.ears(one, start).transcribe(AUDIO) == "Hello There"
        assert server.headers[0].get("authorization") == sent
        assert server.asked[0]["model"] == "large"


async def test_the_configured_server_gets_its_key() -> None:
    async with transcription_server() as server:
        async with routes(openai_api_key="sk-openai", openai_base_url=server.url) as made:
            assert await made.ears(agent(provider="openai"), start).transcribe(AUDIO) == "hello there"
        assert server.headers[0]["authorization"] == "bearer sk-openai"
        assert server.asked[0]["model"] == "whisper-1"


async def test_a_dead_server_costs_no_utterance_and_shows_in_health() -> None:
    one = agent(provider="openai", base_url=f"http://127.0.0.1:{free_port()}/v1")
    async with routes(one) as made:
        assert [row.state for row in made.health_now()] == ["unknown", "unknown"]
        ears = made.ears(one, start)
        for _ in range(3):
            assert await ears.transcribe(AUDIO) == "from here"
        rows = made.health_now()
        assert [(row.name, row.state) for row in rows] == [("openai", "down"), ("local", "up")]
        assert "Cannot be reached" in rows[0].detail


async def test_without_the_local_recogniser_a_remote_one_hears_alone() -> None:
    async with routes(agent(provider="telnyx"), local=AbsentTranscriber(), telnyx_api_key="KEY") as made:
        assert names(made, agent(provider="telnyx")) == ["telnyx"]
        made.must_hear_somebody()


async def test_an_agent_that_cannot_hear_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    hears, deaf = agent(provider="telnyx"), agent()
    async with routes(hears, deaf, local=AbsentTranscriber(), telnyx_api_key="KEY") as made:
        made.must_hear_somebody()
        (plan,) = made.plans(deaf)
        with pytest.raises(HearingError, match="the embedded recogniser is not installed: .* install "):
            await plan.make(start).transcribe(AUDIO)
        made.plans(deaf)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "agent a: nothing hears its callers: local: the embedded recogniser is not" in caplog.text


async def test_with_nobody_who_hears_nothing_is_served() -> None:
    async with routes(agent(provider="openai"), local=AbsentTranscriber()) as made:
        with pytest.raises(
            ConfigError, match=r"^no agent can hear: openai: OPENAI_API_KEY is not set: [^(]*$"
        ):
            made.must_hear_somebody()
    async with routes(agent(), local=AbsentTranscriber()) as made:
        with pytest.raises(ConfigError, match=r"no agent can hear: local: .*another provider \(telnyx"):
            made.must_hear_somebody()
    async with routes(local=AbsentTranscriber()) as made:
        made.must_hear_somebody()  # an agent may yet come
