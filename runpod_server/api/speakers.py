"""Which voice each speaker id speaks with, and what an operator must be told where one has none. Pure."""

from __future__ import annotations

from runpod_server.engine.request import SPEAKERS, Engine


def bound_speakers(engine: Engine) -> dict[int, str]:
    """The name of the voice of each speaker that has one, by speaker."""
    bound: dict[int, str] = {}
    for voice in engine.voices:  # the engine's own come first: they speak, where it has any
        if voice.speaker_id is not None:
            bound.setdefault(voice.speaker_id, voice.name)
    return dict(sorted(bound.items()))


def unbound_speakers(engine: Engine) -> list[int]:
    """The speakers that no voice is bound to: a different person's voice in every answer."""
    bound = bound_speakers(engine)
    return [speaker for speaker in SPEAKERS if speaker not in bound]


def unbound_notice(engine: Engine) -> str | None:
    """A sentence for the log and for /health; None: every speaker has a voice."""
    unbound = unbound_speakers(engine)
    if not unbound:
        return None
    if len(unbound) == len(SPEAKERS):
        return (
            "No speaker has a voice: every answer sounds like a different person. That is what "
            "VOICES_DIR=none asks for; leave VOICES_DIR empty for the voices that come with this program."
        )
    these = ", ".join(str(speaker) for speaker in unbound)
    return (
        f"No voice is bound to speaker {these}: what it says sounds like a different person in every answer. "
        "Bind one with POST /voices or `sesame-server voices add --speaker`; `sesame-server doctor` says "
        "which voices are left out, and why."
    )
