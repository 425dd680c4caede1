"""The carrier's own voice: one text at a time, and silence before the next."""

from __future__ import annotations

import asyncio
import itertools

from backend.calls.speaking.carrier_voice import CarrierVoice
from tests.backend.calls.carrier import Carrier
from tests.backend.calls.fakes import until


def voice_of(carrier: Carrier) -> CarrierVoice:
    numbers = itertools.count(1)
    return CarrierVoice(
        carrier, language="en-US", ccid=lambda: "v3:1", command_id=lambda name: f"{next(numbers)}-{name}"
    )


async def test_a_text_is_said_when_the_carrier_says_so() -> None:
    carrier = Carrier()
    carrier.react["speak"] = lambda: None
    voice = voice_of(carrier)
    saying = asyncio.create_task(voice.say("Hello."))
    await until(lambda: carrier.commands)
    assert not saying.done()
    voice.spoke()
    await saying


async def test_the_next_text_waits_until_the_one_that_was_cut_off_is_silent() -> None:
    carrier = Carrier()
    carrier.react["speak"] = carrier.react["stop_speaking"] = lambda: None
    carrier.gates["stop_speaking"] = asyncio.Event()
    voice = voice_of(carrier)
    cut_off = asyncio.create_task(voice.say("A long story."))
    await until(lambda: carrier.commands)
    cut_off.cancel()
    await asyncio.wait([cut_off])
    following = asyncio.create_task(voice.say("Goodbye."))
    await until(lambda: len(carrier.commands) == 2)
    carrier.gates["stop_speaking"].set()
    await asyncio.sleep(0)
    assert [name for name, _, _ in carrier.commands] == ["speak", "stop_speaking"], (
        "it would be silenced, too"
    )
    voice.spoke()  # the end of the first
    await until(lambda: len(carrier.commands) == 3)
    assert not following.done()
    voice.spoke()
    await following
    await voice.aclose()


async def test_a_carrier_that_does_not_tell_of_the_silence_costs_half_a_second() -> None:
    carrier = Carrier()
    carrier.react["speak"] = carrier.react["stop_speaking"] = lambda: None
    voice = voice_of(carrier)
    cut_off = asyncio.create_task(voice.say("A long story."))
    await until(lambda: carrier.commands)
    cut_off.cancel()
    await asyncio.wait([cut_off])
    following = asyncio.create_task(voice.say("Goodbye."))
    await until(lambda: len(carrier.commands) == 3)
    voice.spoke()
    await following
