"""Which speakers of the speech server agents speak as, and which of them have no voice there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backend.core.agent import Agent
from backend.core.pods import PodReport

_OWN_SERVER = frozenset({"sesame_ws", "sesame_rest"})


def speakers_asked_for(agents: Iterable[Agent]) -> dict[int, list[str]]:
    """The ids of the agents that speak as each speaker of a speech server of one's own.

    An agent that names a voice asks for no speaker.
    """
    asked: dict[int, list[str]] = {}
    for agent in agents:
        speaks_there = agent.tts_provider == "sesame" or _OWN_SERVER & set(agent.tts_fallbacks or ())
        if speaks_there and agent.sesame_settings.voice is None:
            asked.setdefault(agent.sesame_settings.speaker_id, []).append(agent.id)
    return asked


def voiceless_speakers(asked: dict[int, list[str]], server: str, report: PodReport) -> Sequence[str]:
    """A sentence for each speaker asked for that has no voice at `server`, which said `report` of itself."""
    if report.unbound_speakers is None:
        return [f"The speech server at {server} does not tell which speakers have a voice."]
    return [
        f"{', '.join(asked[speaker])}: speaker {speaker} has no voice at the speech server {server}, so that "
        "every answer sounds like a different person. Leave its VOICES_DIR empty, or bind a voice: "
        f"`sesame-server voices add --speaker {speaker}`."
        for speaker in sorted(asked)
        if speaker in report.unbound_speakers
    ]
