from __future__ import annotations

import json
from typing import Any

from backend.core.agent import Agent
from backend.core.agent_speakers import speakers_asked_for, voiceless_speakers
from backend.core.pods import PodReport

URL = "http://127.0.0.1:8000"


def agent(name: str, **fields: Any) -> Agent:
    flow = {"start": "bye", "nodes": [{"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]}]}
    return Agent.model_validate_json(json.dumps({"id": name, "name": name, "call_flow": flow, **fields}))


def test_who_speaks_as_whom() -> None:
    agents = [
        agent("plain"),
        agent("six", sesame_settings={"speaker_id": 6}),
        agent("six-too", sesame_settings={"speaker_id": 6}, use_websocket_tts=False),
        agent("named", sesame_settings={"speaker_id": 3, "voice": "mara"}),
        agent(
            "other",
            tts_provider="elevenlabs",
            elevenlabs_settings={"voice_id": "x"},
            tts_fallbacks=["telnyx"],
        ),
        agent(
            "in-need",
            tts_provider="elevenlabs",
            elevenlabs_settings={"voice_id": "x"},
            sesame_settings={"speaker_id": 9},
            tts_fallbacks=["sesame_rest"],
        ),
    ]
    assert speakers_asked_for(agents) == {0: ["plain"], 6: ["six", "six-too"], 9: ["in-need"]}


def test_only_speakers_that_are_asked_for_are_told() -> None:
    asked = {6: ["reminder", "survey"], 2: ["desk"]}
    (told,) = voiceless_speakers(asked, URL, PodReport(unbound_speakers=(3, 4, 6)))
    assert told.startswith(f"reminder, survey: speaker 6 has no voice at the speech server {URL},")
    assert "voices add --speaker 6" in told
    assert voiceless_speakers(asked, URL, PodReport(unbound_speakers=())) == []


def test_a_server_that_does_not_tell_is_said_to_be_so() -> None:
    (told,) = voiceless_speakers({0: ["desk"]}, URL, PodReport())
    assert told == f"The speech server at {URL} does not tell which speakers have a voice."
