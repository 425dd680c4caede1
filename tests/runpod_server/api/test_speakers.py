from __future__ import annotations

from typing import Any

from runpod_server.api.speakers import bound_speakers, unbound_notice, unbound_speakers
from runpod_server.engine.request import Voice


def engine(commanded: Any, *bound: tuple[str, int | None]) -> Any:
    made = commanded({})
    made.voices = tuple(Voice(name, speaker, "") for name, speaker in bound)
    return made


def test_an_engines_own_voice_speaks_for_a_speaker_that_a_recording_is_bound_to_as_well(commanded) -> None:
    two = engine(commanded, ("heart", 0), ("birch", 1), ("juniper", 0), ("mara", None))
    assert bound_speakers(two) == {0: "heart", 1: "birch"}
    assert unbound_speakers(two) == list(range(2, 10))


def test_the_notice_names_the_speakers_that_have_no_voice(commanded) -> None:
    all_ten = [(f"voice-{speaker}", speaker) for speaker in range(10)]
    assert unbound_notice(engine(commanded, *all_ten)) is None
    some = unbound_notice(engine(commanded, *all_ten[:4], *all_ten[5:9]))
    assert some is not None and some.startswith("No voice is bound to speaker 4, 9:")
    none = unbound_notice(engine(commanded))
    assert none is not None and "VOICES_DIR=none" in none
