"""What is measured for which settings and agents, and what is said to be missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backend.core.agent import Agent
from backend.errors import ConfigError
from backend.latency.subjects import Choice, choose, route_names
from backend.settings import load_settings

Speaker = Callable[..., Agent]
SERVERS = "http://127.0.0.1:1,http://127.0.0.1:2"
EVERYTHING = {
    "sesame_self_hosted_url": SERVERS,
    "elevenlabs_api_key": "sk",
    "sesame_fallback_enabled": True,
    "sesame_fallback_url": "https://me:secret@other.example",
}


async def chosen(given: dict[str, Any], *agents: Agent, **options: Any) -> Choice:
    return await choose(load_settings(None, **given), agents, "It is 5.", **options)


def labels(choice: Choice) -> list[str]:
    return [subject.label for subject in choice.subjects]


async def test_every_route_is_measured_at_every_server(speaker: Speaker) -> None:
    choice = await chosen(EVERYTHING, speaker())
    assert labels(choice) == [
        "sesame_ws 1", "sesame_ws 2", "sesame_rest 1", "sesame_rest 2", "sesame_fallback", "elevenlabs",
        "elevenlabs_rest",
    ]  # fmt: skip
    assert [subject.server for subject in choice.subjects[:2]] == SERVERS.split(",")
    assert choice.subjects[4].server == "https://other.example", "without name and password"
    assert choice.not_configured == {"sesame_hosted": "set SESAME_SELF_HOSTED=false and SESAME_URL"}


async def test_what_is_not_set_up_is_told_with_what_to_set(speaker: Speaker) -> None:
    choice = await chosen({}, speaker())
    assert labels(choice) == ["sesame_ws", "sesame_rest"]
    assert choice.not_configured == {
        "sesame_hosted": "set SESAME_SELF_HOSTED=false and SESAME_URL",
        "sesame_fallback": "set SESAME_FALLBACK_ENABLED=true and SESAME_FALLBACK_URL",
        "elevenlabs": "set ELEVENLABS_API_KEY",
        "elevenlabs_rest": "set ELEVENLABS_API_KEY",
    }
    hosted = await chosen({"sesame_self_hosted": False, "sesame_url": "https://hosted.example"}, speaker())
    assert labels(hosted) == ["sesame_hosted"]
    assert hosted.not_configured["sesame_ws"] == "set SESAME_SELF_HOSTED=true"


async def test_an_agents_own_routes_in_its_own_voice(speaker: Speaker) -> None:
    one = speaker(tts_fallbacks=["elevenlabs", "telnyx"])
    other = speaker(id="other", name="Other", sesame_settings={"speaker_id": 4})
    assert labels(await chosen({"elevenlabs_api_key": "sk"}, one, other, agent=one)) == [
        "sesame_ws",
        "elevenlabs",
    ]
    (subject,) = (await chosen({}, one, other, agent=other)).subjects
    assert (subject.label, subject.voice, subject.agent) == ("sesame_ws", "4", "Other")
    # A route asked for by name is measured in that agent's voice, whether or not it would use it.
    (subject,) = (await chosen({}, one, other, agent=other, names=["sesame_rest"])).subjects
    assert (subject.label, subject.voice) == ("sesame_rest", "4")


async def test_the_voice_is_that_of_an_agent_who_speaks_by_the_route(speaker: Speaker) -> None:
    voiceless = speaker(elevenlabs_settings={})
    may = speaker(id="may", elevenlabs_settings={"voice_id": "may"})
    does = speaker(id="does", tts_provider="elevenlabs", elevenlabs_settings={"voice_id": "does"})
    choice = await chosen({"elevenlabs_api_key": "sk"}, voiceless, may, does, names=["elevenlabs"])
    assert choice.subjects[0].voice == "does"
    choice = await chosen({"elevenlabs_api_key": "sk"}, voiceless, may, names=["elevenlabs"])
    assert choice.subjects[0].voice == "may"


async def test_the_text_is_spoken_as_in_a_call(speaker: Speaker) -> None:
    (english,) = (await chosen({}, speaker(), names=["sesame_ws"])).subjects
    assert english.text == "It is five."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("🎉 **", "there is nothing in it that can be spoken"),
        ("", "nothing in it"),
        ("a" * 1001, "1001 characters are too many; give at most 1000"),
    ],
)
async def test_texts_that_cannot_be_spoken_are_told(speaker: Speaker, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        await choose(load_settings(None), [speaker()], text)


async def test_nothing_to_measure_is_told_with_what_to_set(speaker: Speaker) -> None:
    with pytest.raises(
        ConfigError, match="no speech route is configured .*elevenlabs: set ELEVENLABS_API_KEY"
    ):
        await chosen({"sesame_enabled": False}, speaker())
    with pytest.raises(ConfigError, match="elevenlabs: set elevenlabs_settings.voice_id in the agent's file"):
        silent = speaker(elevenlabs_settings={})
        await chosen({"elevenlabs_api_key": "sk"}, silent, names=["elevenlabs"])


def test_route_names_are_checked() -> None:
    assert route_names([]) == []
    assert route_names(["elevenlabs", "sesame_ws", "elevenlabs"]) == ["sesame_ws", "elevenlabs"]
    with pytest.raises(ConfigError, match="--route sesame: there is no such route; choose from sesame_ws, "):
        route_names(["sesame_ws", "sesame"])
    with pytest.raises(ConfigError, match="--route telnyx: the carrier's own voice"):
        route_names(["telnyx"])
