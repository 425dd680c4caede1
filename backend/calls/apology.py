"""What a caller hears when an agent cannot go on: never nothing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from backend.calls.ports import PreparedVoice
from backend.calls.speaking.carrier_voice import CarrierVoice
from backend.calls.speaking.speaker import Speaker, Utterance
from backend.calls.talking.conversation import Conversation
from backend.errors import SpeechError

log = logging.getLogger(__name__)


async def apologise(
    text: str,
    conversation: Conversation,
    speaker: Speaker,
    prepared: PreparedVoice | None,
    carrier: CarrierVoice,
    *,
    voice_is_left: bool,
) -> None:
    """Say `text` by a recording, the agent's voice, or the carrier's: the first that works."""
    recording = prepared.apology() if prepared is not None else None
    ways: list[Callable[[], Awaitable[Utterance]]] = []
    if voice_is_left:
        ways.append(lambda: speaker.say(text))
    if recording is not None:
        ways.append(lambda: speaker.play(recording.ulaw, recording.text))
    for way in ways:
        try:
            await conversation.say_last(way)
            return
        except SpeechError as error:
            log.error("%s", error)
    with suppress(SpeechError):
        await carrier.say(text)
