"""Which routes an agent gets for which settings, and how they do; servers are real sockets, or not there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from backend.calls.boards.route_board import RouteBoard
from backend.calls.ports import RoutePlan
from backend.core.agent import Agent
from backend.core.health import RouteKey
from backend.errors import SpeechError
from backend.settings import Settings, load_settings
from backend.speech_chain import SpeechChain
from backend.speech_routes import SpeechRoutes
from backend.tts.elevenlabs_rest import ElevenLabsRestService
from backend.tts.elevenlabs_ws import ElevenLabsWebSocketService
from backend.tts.hosted import HostedInferenceService
from backend.tts.sesame_rest import SesameRestService
from backend.tts.sesame_ws import SesameWebSocketService
from tests.backend.calls.fakes import agent, now_ms, until
from tests.backend.tts.answering import server

BYE = {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]}
ONE, TWO, THREE = "http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"
VOICE = {"elevenlabs_settings": {"voice_id": "adam", "stability": 0.4}}
ALL = {
    "elevenlabs_api_key": "sk",
    "sesame_fallback_enabled": True,
    "sesame_fallback_url": "https://other.example",
    "sesame_api_key": "ours",
}


def settings(**given: Any) -> Settings:
    return load_settings(None, **{"sesame_self_hosted_url": ONE} | given)


class Bench:
    def __init__(self, given: Settings, *agents: Agent) -> None:
        self.board = RouteBoard(now_ms)
        self.routes = SpeechRoutes(given, self.board, lambda: agents, now_ms)

    def names(self, of: Agent) -> list[str]:
        return [plan.key.name for plan in self.routes.plans(of)]


@asynccontextmanager
async def bench(*agents: Agent, **given: Any) -> AsyncIterator[Bench]:
    """Nothing is looked at."""
    made = Bench(settings(**given), *agents)
    try:
        yield made
    finally:
        await made.routes.__aexit__()


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("wishes", "given", "names"),
    [
        ({}, {}, ["sesame_ws"]),
        ({"use_websocket_tts": False}, {}, ["sesame_rest"]),
        ({"tts_fallbacks": ["sesame_rest", "telnyx"]}, {}, ["sesame_ws", "sesame_rest"]),
        (
            {"tts_fallbacks": ["elevenlabs_rest", "sesame_fallback", "elevenlabs", "sesame_rest"], **VOICE},
            ALL,
            ["sesame_ws", "elevenlabs_rest", "sesame_fallback", "elevenlabs", "sesame_rest"],
        ),
        ({"tts_provider": "elevenlabs", **VOICE}, ALL, ["elevenlabs"]),
        (
            {
                "tts_provider": "elevenlabs",
                "use_websocket_tts": False,
                "tts_fallbacks": ["elevenlabs"],
                **VOICE,
            },
            ALL,
            ["elevenlabs_rest", "elevenlabs"],
        ),
        # An agent's own route among its fallbacks stands once.
        ({"tts_provider": "elevenlabs", "tts_fallbacks": ["elevenlabs"], **VOICE}, ALL, ["elevenlabs"]),
        # Not self-hosted.
        (
            {"tts_fallbacks": ["sesame_rest", "sesame_fallback"]},
            {**ALL, "sesame_self_hosted": False, "sesame_url": "https://hosted.example/model"},
            ["sesame_hosted", "sesame_fallback"],
        ),
        # No Sesame at all.
        (
            {"tts_fallbacks": ["sesame_rest", "sesame_fallback", "elevenlabs"], **VOICE},
            {**ALL, "sesame_enabled": False},
            ["elevenlabs"],
        ),
        # Not set up.
        (
            {"tts_fallbacks": ["sesame_fallback", "elevenlabs", "sesame_rest"], **VOICE},
            {},
            ["sesame_ws", "sesame_rest"],
        ),
        ({"tts_provider": "elevenlabs", **VOICE}, {}, []),
    ],
)
async def test_the_order_of_routes(wishes: dict[str, Any], given: dict[str, Any], names: list[str]) -> None:
    speaker = agent(BYE, **wishes)
    async with bench(speaker, **given) as b:
        assert b.names(speaker) == names


@pytest.mark.parametrize(
    ("file", "given", "chain"),
    [
        ({}, {}, "sesame_ws → sesame_rest → telnyx"),
        ({"use_websocket_tts": False}, {}, "sesame_rest → telnyx"),
        ({}, ALL,
         "sesame_ws → sesame_rest → sesame_fallback → telnyx; not by elevenlabs: "
         "elevenlabs_settings.voice_id is not set, nor ELEVENLABS_VOICE_ID"),
        ({}, {**ALL, "elevenlabs_voice_id": "eve"},
         "sesame_ws → sesame_rest → sesame_fallback → elevenlabs → telnyx"),
        (VOICE, ALL, "sesame_ws → sesame_rest → sesame_fallback → elevenlabs → telnyx"),
        ({"use_websocket_tts": False, **VOICE}, {"elevenlabs_api_key": "sk"},
         "sesame_rest → elevenlabs_rest → telnyx"),
        ({"tts_provider": "elevenlabs", **VOICE}, {"elevenlabs_api_key": "sk"},
         "elevenlabs → elevenlabs_rest → sesame_ws → sesame_rest → telnyx"),
        ({"tts_provider": "elevenlabs"}, {"elevenlabs_api_key": "sk"},
         "sesame_ws → sesame_rest → telnyx; not by elevenlabs: elevenlabs_settings.voice_id is not set, nor "
         "ELEVENLABS_VOICE_ID"),
        ({}, {"sesame_self_hosted": False, "sesame_url": "https://hosted.example/model"},
         "sesame_hosted → telnyx"),
        ({"tts_fallbacks": []}, ALL, "sesame_ws"),
        ({"tts_fallbacks": ["telnyx"]}, ALL, "sesame_ws → telnyx"),
        ({"tts_fallbacks": ["elevenlabs"]}, {},
         "sesame_ws; not by elevenlabs: ELEVENLABS_API_KEY is not set"),
    ],
)  # fmt: skip
def test_the_chain_of_an_agent_is_all_that_is_set_up_unless_its_file_says_otherwise(
    file: dict[str, Any], given: dict[str, Any], chain: str
) -> None:
    speaker = agent(BYE, **{"tts_fallbacks": None} | file)
    assert SpeechChain(settings(**given)).told(speaker) == chain


async def test_a_voice_of_the_settings_is_asked_and_the_first_route_is_asked_anew() -> None:
    speaker = agent(BYE, tts_fallbacks=None)
    async with bench(speaker, elevenlabs_api_key="sk", elevenlabs_voice_id="eve") as b:
        plans = b.routes.plans(speaker)
        assert [plan.asked_anew for plan in plans] == [True, False, False]
        assert plans[-1].voice_id == "eve"
        assert b.routes.chains() == {"tester": "sesame_ws → sesame_rest → elevenlabs → telnyx"}


async def test_nothing_is_said_of_what_is_not_set_up_and_nobody_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    speaker = agent(BYE, tts_fallbacks=None)
    with caplog.at_level(logging.WARNING):
        async with bench(speaker) as b:
            b.routes.plans(speaker)
    assert caplog.records == []


async def test_what_an_agent_goes_without_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    speaker = agent(BYE, tts_fallbacks=["sesame_fallback", "elevenlabs"], **VOICE)
    silent = agent(BYE, id="silent", tts_provider="elevenlabs", **VOICE)
    with caplog.at_level(logging.WARNING):
        async with bench(speaker, silent) as b:
            for _ in range(3):
                b.routes.plans(speaker)
                b.routes.plans(silent)
    assert [record.message for record in caplog.records] == [
        "agent tester cannot speak by sesame_fallback: SESAME_FALLBACK_ENABLED is false; elevenlabs: "
        "ELEVENLABS_API_KEY is not set; the others serve",
        "agent silent cannot speak by elevenlabs: ELEVENLABS_API_KEY is not set; it has no voice left, and "
        "its callers hear an apology",
    ]


def servers(plans: Sequence[RoutePlan], name: str) -> list[str]:
    return [plan.key.server for plan in plans if plan.key.name == name]


async def test_a_second_server_stands_in_before_other_vendors() -> None:
    speaker = agent(BYE, tts_fallbacks=["elevenlabs", "sesame_rest"], **VOICE)
    given = {**ALL, "sesame_self_hosted_url": f"{ONE},{TWO},{THREE}"}
    async with bench(speaker, **given) as b:
        for _ in range(10):
            plans = b.routes.plans(speaker)
            assert [plan.key.name for plan in plans] == [
                "sesame_ws", "sesame_ws", "elevenlabs", "sesame_rest", "sesame_rest",
            ]  # fmt: skip
            first, second = servers(plans, "sesame_ws")
            assert first != second
            # By REST first the server that has not just failed.
            assert servers(plans, "sesame_rest")[0] not in (first, second)
            assert len({plan.key for plan in plans}) == len(plans)


async def test_calls_are_spread_but_what_is_made_ahead_does_not_count() -> None:
    speaker = agent(BYE)
    async with bench(speaker, sesame_self_hosted_url=f"{ONE},{TWO}") as b:
        for _ in range(200):
            b.routes.plans_ahead(speaker)
        assert all(seen.recent == 0 for seen in b.routes.pods._seen.values())
        firsts = [b.routes.plans(speaker)[0].key.server for _ in range(20)]
        assert 6 <= firsts.count(ONE) <= 14


async def test_a_call_is_a_conversation_of_its_own_and_what_is_made_ahead_is_none() -> None:
    speaker = agent(BYE)
    async with bench(speaker) as b:
        made = [b.routes.plans(speaker)[0].make(), b.routes.plans(speaker)[0].make()]
        made.append(b.routes.plans_ahead(speaker)[0].make())
        contexts = [route.context_id for route in made if isinstance(route, SesameWebSocketService)]
        assert len(contexts) == 3
        assert contexts[0] and contexts[1] and contexts[0] != contexts[1]
        assert contexts[2] is None
        for route in made:
            await route.aclose()


async def test_adapters_are_given_what_the_agent_wants() -> None:
    speaker = agent(
        BYE,
        language="en-GB",
        tts_fallbacks=["sesame_rest", "sesame_fallback", "elevenlabs", "elevenlabs_rest"],
        sesame_settings={"speaker_id": 3, "voice": "mara", "temperature": 0.7, "chunk_samples": 2400},
        **VOICE,
    )
    async with bench(speaker, **ALL, sesame_fallback_api_key="theirs") as b:
        plans = b.routes.plans(speaker)
        made = [plan.make() for plan in plans]
        assert [route.name for route in made] == [plan.key.name for plan in plans]
        assert [plan.voice_id for plan in plans] == ["mara", "mara", "mara", "adam", "adam"]
        ws, rest, fallback, eleven, eleven_rest = made
        assert isinstance(ws, SesameWebSocketService) and isinstance(rest, SesameRestService)
        assert isinstance(fallback, SesameRestService)
        assert isinstance(eleven, ElevenLabsWebSocketService)
        assert isinstance(eleven_rest, ElevenLabsRestService)
        assert (ws.url, ws.speaker_id) == ("ws://127.0.0.1:1/ws/generate", 3)
        assert ws._settings == {"voice": "mara", "temperature": 0.7, "chunk_samples": 2400}
        assert rest.url == f"{ONE}/generate" and fallback.url == "https://other.example/generate"
        assert rest._settings == {"speaker_id": 3, "voice": "mara", "temperature": 0.7}
        # Our key is ours: another's server is sent its own.
        assert (rest._client._headers, fallback._client._headers) == (
            {"Authorization": "Bearer ours"},
            {"Authorization": "Bearer theirs"},
        )
        for route in made:
            await route.aclose()


@pytest.mark.parametrize(("asked", "speed"), [({}, 1.0), ({"speed": 1.2}, 1.2)])
async def test_how_fast_a_voice_is_asked_to_speak_is_known(asked: dict[str, Any], speed: float) -> None:
    one = agent(BYE, tts_fallbacks=["elevenlabs"], elevenlabs_settings={"voice_id": "adam", **asked})
    async with bench(one, **ALL) as made:
        plans = {plan.key.name: plan.speed for plan in made.routes.plans(one)}
    assert plans == {"sesame_ws": 1.0, "elevenlabs": speed}


async def test_a_hosted_model_is_told_what_it_may_know() -> None:
    speaker = agent(BYE, sesame_settings={"speaker_id": 2, "seed": 1, "temperature": 0.7})
    async with bench(speaker, sesame_self_hosted=False, sesame_url="https://hosted.example/m") as b:
        (plan,) = b.routes.plans(speaker)
        assert plan.key == RouteKey("sesame_hosted", "https://hosted.example/m") and plan.voice_id == "2"
        route = plan.make()
        assert isinstance(route, HostedInferenceService) and route._parameters == {"temperature": 0.7}
        await route.aclose()


# --- looking at them ---------------------------------------------------------------------------------

HEALTHY = {"status": "healthy", "model_loaded": True, "engine": "csm", "model": "m",
           "streams": {"active": 1, "capacity": 8}}  # fmt: skip


async def test_the_health_of_every_route_some_agent_may_use() -> None:
    def vendor(path: str, key: str) -> tuple[int, object]:
        if path == "/v1/user/subscription":
            return 200, {"character_count": 5, "character_limit": 5}
        return 404, {"detail": {"status": "voice_not_found"}}

    speaker = agent(BYE, tts_fallbacks=["elevenlabs"], **VOICE)
    async with server(lambda path, key: (200, HEALTHY)) as pod, server(vendor) as eleven:
        given = settings(
            sesame_self_hosted_url=f"{pod},{ONE}", elevenlabs_api_key="sk", elevenlabs_base_url=eleven
        )
        b = Bench(given, speaker)
        async with b.routes:
            rows = await b.routes.health()
            assert [(row.name, row.server, row.state) for row in rows] == [
                ("sesame_ws", pod, "up"),
                ("sesame_ws", ONE, "down"),
                ("elevenlabs", eleven, "down"),
            ]
            assert rows[0].detail == "works; 7 of 8 streams free"
            assert "Cannot be reached" in rows[1].detail
            assert "Out of quota" in rows[2].detail
            # The call goes where a server answers.
            assert b.routes.plans(speaker)[0].key.server == pod
            assert await b.routes.maker(b.routes.plans(speaker)[0]) == "csm m"
            with pytest.raises(SpeechError, match="All connection attempts failed"):
                await b.routes.maker(b.routes.plans(speaker)[1])


async def test_an_agent_without_any_voice_has_a_row_that_says_what_to_do() -> None:
    mute = agent(BYE, id="mute", tts_fallbacks=["elevenlabs"], **VOICE)
    carried = agent(BYE, id="carried", tts_fallbacks=["telnyx"])
    async with bench(mute, carried, sesame_enabled=False) as b:
        [row] = b.routes.health_now()
    assert (row.name, row.state) == ("sesame_ws", "down")
    assert row.detail == (
        "Agent mute has no voice, its callers hear an apology. SESAME_ENABLED is false: set "
        "SESAME_ENABLED=true; ELEVENLABS_API_KEY is not set: set ELEVENLABS_API_KEY."
    )


async def test_servers_that_refuse_the_key_are_not_said_to_be_away(caplog: pytest.LogCaptureFixture) -> None:
    async with server(lambda path, key: (401 if path != "/health" else 200, {"status": "healthy"})) as pod:
        b = Bench(settings(sesame_self_hosted_url=pod, sesame_api_key="wrong"), agent(BYE))
        async with b.routes:
            await until(lambda: "no speech server lets us speak" in caplog.text)
            with pytest.raises(SpeechError, match="refuses SESAME_API_KEY") as caught:
                await b.routes.maker(b.routes.plans(agent(BYE))[0])
    assert caught.value.reason == "unauthorized"


async def test_an_unknown_voice_has_a_row_of_its_own() -> None:
    def vendor(path: str, key: str) -> tuple[int, object]:
        if path == "/v1/user/subscription":
            return 200, {"character_count": 1, "character_limit": 5}
        return 404, {"detail": {"status": "voice_not_found", "message": "no such voice"}}

    speaker = agent(BYE, tts_provider="elevenlabs", **VOICE)
    async with server(vendor) as eleven:
        b = Bench(settings(elevenlabs_api_key="sk", elevenlabs_base_url=eleven), speaker)
        async with b.routes:
            await b.routes.health()
            await until(lambda: len(b.routes.health_now()) == 2)
            route, voice = b.routes.health_now()
            assert (route.state, voice.state) == ("up", "down")
            assert voice.detail.startswith("voice adam: The voice is unknown: correct it in the agent's file")


async def test_no_server_is_asked_for_agents_that_do_not_want_it(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def pod(path: str, key: str) -> tuple[int, object]:
        asked.append(path)
        return 200, HEALTHY

    speaker = agent(BYE, tts_provider="elevenlabs", **VOICE)
    async with server(pod) as url, server(lambda path, key: (200, {})) as eleven:
        given = settings(sesame_self_hosted_url=url, elevenlabs_api_key="sk", elevenlabs_base_url=eleven)
        b = Bench(given, speaker)
        async with b.routes:
            assert [row.name for row in await b.routes.health()] == ["elevenlabs"]
    assert not asked and "no speech server" not in caplog.text


async def test_another_server_is_looked_at_by_connecting() -> None:
    speaker = agent(BYE, tts_fallbacks=["sesame_fallback"])
    async with server(lambda path, key: (401, {})) as other:
        given = settings(sesame_fallback_enabled=True, sesame_fallback_url=other)
        b = Bench(given, speaker)
        async with b.routes:
            await b.routes.health()
            await until(lambda: b.board.health([RouteKey("sesame_fallback", other)])[0].state == "down")
            assert b.routes.health_now()[-1].detail.startswith("The key is refused")


async def test_it_is_stopped_while_looks_hang() -> None:
    speaker = agent(BYE, tts_fallbacks=["elevenlabs"], **VOICE)
    async with server(lambda path, key: None) as silent:
        given = settings(sesame_self_hosted_url=silent, elevenlabs_api_key="sk", elevenlabs_base_url=silent)
        b = Bench(given, speaker)
        async with asyncio.timeout(5):
            async with b.routes:
                await asyncio.sleep(0)
        assert all(task.done() for task in b.routes._tasks)
