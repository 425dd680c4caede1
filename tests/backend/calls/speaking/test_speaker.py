"""The agent's mouth against a line that plays in real time and voices that do as scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from backend.calls.speaking.speaker import Speaker
from backend.core.g711 import Codec
from backend.errors import SpeechError
from tests.backend.calls.fakes import Line, Script, ScriptedRoute, now_ms, tone, until, voice_of

FAILURE = SpeechError("the server is gone", route="sesame_ws", reason="closed")


@asynccontextmanager
async def speaking(
    route: ScriptedRoute, *, returns_marks: bool = True, codec: Codec = Codec.PCMU
) -> AsyncIterator[tuple[Speaker, Line]]:
    line = Line(returns_marks=returns_marks)
    voice = voice_of(route, codec=codec)
    speaker = Speaker(line.send, voice, codec=codec, clock=now_ms)
    line.on_mark = speaker.mark_returned
    sender = asyncio.create_task(speaker.run())
    try:
        async with asyncio.timeout(10):
            yield speaker, line
    finally:
        sender.cancel()
        await asyncio.wait([sender])
        await voice.aclose()
        await line.close()


async def test_the_first_frame_goes_out_with_the_first_chunk_not_with_the_last() -> None:
    rest = asyncio.Event()
    route = ScriptedRoute({"Hello.": Script([tone(80), rest, tone(80)])})
    async with speaking(route) as (speaker, line):
        speech = asyncio.create_task(speaker.say("Hello."))
        await until(lambda: "media" in line.kinds, "the first frame")
        assert route.scripts["Hello."].state == "running"
        rest.set()
        utterance = await speech
    assert utterance.first_chunk_ms is not None
    assert utterance.first_frame_ms is not None
    assert utterance.heard_from_ms is not None
    assert utterance.ended_ms is not None
    assert 0 <= utterance.first_frame_ms - utterance.first_chunk_ms < 30
    assert utterance.started_ms <= utterance.first_chunk_ms <= utterance.first_frame_ms
    assert utterance.first_frame_ms - 25 <= utterance.heard_from_ms <= utterance.ended_ms
    assert (utterance.heard_text, utterance.interrupted, utterance.route) == ("Hello.", False, "sesame_ws")


async def test_say_returns_when_heard_not_when_sent() -> None:
    async with speaking(ScriptedRoute({"Hello.": Script([tone(300)])})) as (speaker, line):
        began_ms = now_ms()
        speech = asyncio.create_task(speaker.say("Hello."))
        await until(lambda: line.audio_ms >= 300, "all sent")
        assert not speech.done()
        assert speaker.speaking
        await speech
        assert now_ms() - began_ms >= 295
        assert not speaker.speaking


async def test_all_audio_arrives_resampled_with_a_mark_per_sentence() -> None:
    route = ScriptedRoute({"One.": Script([tone(50)] * 2), "Two.": Script([tone(100)])})
    async with speaking(route) as (speaker, line):
        utterance = await speaker.say("One. Two.")
        marks = [name for kind, name in line.sent if kind == "mark"]
    assert route.asked == ["One.", "Two."]
    assert 200 <= line.audio_ms <= 220, "200 ms of sound, the last frame filled up"
    assert [name.split(":")[1] for name in marks] == ["start", "end", "end"]
    assert utterance.heard_text == "One. Two."


@pytest.mark.parametrize("codec", list(Codec))
async def test_the_codec_is_that_of_the_line(codec: Codec) -> None:
    async with speaking(ScriptedRoute({"Hi.": Script([bytes(48 * 100)])}), codec=codec) as (speaker, line):
        await speaker.say("Hi.")
        assert set(line.audio) <= set(codec.encode(b"\x00\x00"))


@pytest.mark.parametrize("text", ["", "  ", "…", "?!"])
async def test_nothing_to_say_is_said_at_once(text: str) -> None:
    route = ScriptedRoute()
    async with speaking(route) as (speaker, line):
        utterance = await speaker.say(text)
        assert (utterance.heard_text, line.sent, route.asked) == ("", [], [])


async def test_an_interruption_stops_the_voice_then_clears_the_line_and_nothing_follows() -> None:
    never = asyncio.Event()
    text = "One two three four five six seven eight nine ten."
    route = ScriptedRoute({text: Script([tone(2000), never, tone(500)])})
    async with speaking(route) as (speaker, line):
        speech = asyncio.create_task(speaker.say(text))
        await until(lambda: line.audio_ms >= 600, "a lead's worth of audio")
        await asyncio.wait([speech], timeout=0.25)
        await speaker.interrupt()
        assert line.kinds[-1] == "clear"
        utterance = await speech
        assert route.scripts[text].state == "cancelled"
        count = len(line.sent)
        never.set()
        await asyncio.wait([asyncio.create_task(until(lambda: not speaker.speaking))])
        assert len(line.sent) == count, "silence after clear"
        assert utterance.interrupted
        heard = utterance.heard_text.split()
        assert heard == text.split()[: len(heard)]
        assert 0 < len(heard) < 6, "some 300 ms of an utterance that lasts seconds"
        assert not speaker.speaking
        assert (await speaker.say("Next.")).heard_text == "Next."


async def test_a_frame_being_sent_while_interrupted_does_not_come_after_the_clear() -> None:
    """The socket may let others run before a frame is out."""
    for delay_turns in range(6):
        async with speaking(ScriptedRoute({"Hello.": Script([tone(400)])})) as (speaker, line):
            speech = asyncio.create_task(speaker.say("Hello."))
            await until(lambda line=line: line.kinds, "the first frame")  # type: ignore[misc]
            for _ in range(delay_turns):
                await asyncio.sleep(0)
            await speaker.interrupt()
            await speech
            assert line.kinds[-1] == "clear"


async def test_an_interruption_before_the_first_chunk_clears_nothing() -> None:
    never = asyncio.Event()
    route = ScriptedRoute({"Hello.": Script([never, tone(100)])})
    async with speaking(route) as (speaker, line):
        speech = asyncio.create_task(speaker.say("Hello."))
        await until(lambda: route.asked, "the voice asked")
        await speaker.interrupt()
        utterance = await speech
        assert (utterance.heard_text, utterance.interrupted, utterance.first_chunk_ms) == ("", True, None)
        assert line.sent == []
        assert route.scripts["Hello."].state == "cancelled"


async def test_an_interruption_with_nothing_being_said_does_nothing() -> None:
    async with speaking(ScriptedRoute()) as (speaker, line):
        await speaker.interrupt()
        utterance = await speaker.say("Hello.")
        await speaker.interrupt()
        assert "clear" not in line.kinds
        assert not utterance.interrupted


async def test_marks_that_the_clear_returns_prove_nothing() -> None:
    route = ScriptedRoute({"One two three.": Script([tone(400)])})
    async with speaking(route) as (speaker, line):
        speech = asyncio.create_task(speaker.say("One two three."))
        await until(lambda: line.audio_ms >= 400 and line.kinds[-1] == "mark", "all sent")
        await speaker.interrupt()
        assert (await speech).heard_text != "One two three."


async def test_a_voice_that_fails_in_the_middle_is_heard_so_far_then_told() -> None:
    route = ScriptedRoute({"One.": Script([tone(60)]), "Two and three.": Script([tone(60), FAILURE])})
    async with speaking(route) as (speaker, line):
        began_ms = now_ms()
        with pytest.raises(SpeechError, match="the server is gone"):
            await speaker.say("One. Two and three. Four.")
        assert now_ms() - began_ms >= 95, "what there is was played first"
        assert line.audio_ms >= 100
        assert "clear" not in line.kinds
        assert speaker.last is not None
        assert speaker.last.heard_text.startswith("One.")
        assert "Four" not in speaker.last.heard_text
        assert route.asked == ["One.", "Two and three."]
        assert (await speaker.say("Next.")).heard_text == "Next."


async def test_a_voice_that_fails_at_once_is_told_at_once() -> None:
    async with speaking(ScriptedRoute({"Hello.": Script([FAILURE])})) as (speaker, line):
        with pytest.raises(SpeechError):
            await speaker.say("Hello.")
        assert speaker.last is not None
        assert (speaker.last.heard_text, line.audio) == ("", b"")


async def test_interrupted_while_playing_out_what_a_failed_voice_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = "There is more to say than a voice can in one second and a half as anybody hears."
    async with speaking(ScriptedRoute({text: Script([tone(1500), FAILURE])})) as (speaker, line):
        speech = asyncio.create_task(speaker.say(text))
        await until(lambda: line.kinds and "remain to be said" in caplog.text, "sound, and the failure")
        began_ms = now_ms()
        await speaker.interrupt()
        assert (await speech).interrupted, "nobody waits for the voice to be well again"
        assert now_ms() - began_ms < 500


async def test_a_fast_voice_is_made_to_wait() -> None:
    route = ScriptedRoute({"Long.": Script([tone(2000)] * 20)})
    async with speaking(route) as (speaker, line):
        speech = asyncio.create_task(speaker.say("Long."))
        await until(lambda: route.scripts["Long."].given >= 5, "more than ten seconds made")
        await asyncio.wait([speech], timeout=0.15)
        assert route.scripts["Long."].given <= 6
        assert speaker.playout.queued_ms <= 12_500
        assert line.audio_ms <= 600 + 200 + 150 + 50, "and the lead is kept"
        await speaker.interrupt()
        await speech


async def test_the_voice_goes_on_once_there_is_room() -> None:
    route = ScriptedRoute({"Long.": Script([tone(10_020), tone(40), tone(40)])})
    async with speaking(route) as (speaker, _):
        speech = asyncio.create_task(speaker.say("Long."))
        await until(lambda: route.scripts["Long."].given >= 2, "room after the first frames")
        await speaker.interrupt()
        await speech


async def test_marks_that_never_return_are_not_waited_for_for_ever() -> None:
    async with speaking(ScriptedRoute(default_ms=60), returns_marks=False) as (speaker, _):
        began_ms = now_ms()
        utterance = await speaker.say("Hello there.")
        assert utterance.heard_text == "Hello there."
        assert 60 <= now_ms() - began_ms < 2_500


async def test_two_things_to_say_are_said_one_after_the_other() -> None:
    route = ScriptedRoute(default_ms=60)
    async with speaking(route) as (speaker, line):
        first, second = await asyncio.gather(speaker.say("One."), speaker.say("Two."))
        assert (first.heard_text, second.heard_text) == ("One.", "Two.")
        assert first.ended_ms is not None
        assert first.ended_ms <= second.started_ms
        assert second.number == first.number + 1
        assert 120 <= line.audio_ms <= 160


async def test_an_interruption_ends_only_what_is_being_said() -> None:
    route = ScriptedRoute({"One.": Script([tone(1000)]), "Two.": Script([tone(60)])})
    async with speaking(route) as (speaker, line):
        speeches = [asyncio.create_task(speaker.say(text)) for text in ("One.", "Two.")]
        await until(lambda: line.kinds, "the first frame")
        await speaker.interrupt()
        first, second = await asyncio.gather(*speeches)
        assert (first.interrupted, second.interrupted) == (True, False)
        assert second.heard_text == "Two."


async def test_cancelled_from_outside_falls_silent_and_keeps_the_account() -> None:
    text = "One two three four five six."
    route = ScriptedRoute({text: Script([tone(3000)])})
    async with speaking(route) as (speaker, line):
        speech = asyncio.create_task(speaker.say(text))
        await until(lambda: line.audio_ms >= 600, "a lead's worth of audio")
        await asyncio.wait([speech], timeout=0.2)
        speech.cancel()
        with pytest.raises(asyncio.CancelledError):
            await speech
        assert line.kinds[-1] == "clear"
        assert not speaker.speaking
        assert speaker.last is not None
        assert speaker.last.interrupted
        assert speaker.last.heard_text in text
        assert (await speaker.say("Next.")).heard_text == "Next."


async def test_cancelled_while_the_voice_is_asked_leaves_nothing_running() -> None:
    never = asyncio.Event()
    route = ScriptedRoute({"Hello.": Script([never])})
    async with speaking(route) as (speaker, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await speaker.say("Hello.")
        await until(lambda: route.scripts["Hello."].state == "cancelled")


async def test_unknown_and_stale_marks_are_harmless() -> None:
    async with speaking(ScriptedRoute()) as (speaker, _):
        for name in ("", "x", "0:start:1", "9:end:0", "0:end:99"):
            speaker.mark_returned(name)
        assert (await speaker.say("Hello.")).heard_text == "Hello."
        speaker.mark_returned("0:end:0")


async def test_held_it_falls_silent_and_plays_on_without_asking_the_voice_again() -> None:
    route = ScriptedRoute({"Hello there.": Script([tone(1_000)])})
    async with speaking(route) as (speaker, line):
        speech = asyncio.create_task(speaker.say("Hello there."))
        await until(lambda: line.audio_ms >= 400, "some of it")
        assert speaker.speaking and await speaker.hold()
        assert line.kinds[-1] == "clear" and not speaker.speaking
        held_ms = line.audio_ms
        await asyncio.wait([speech], timeout=0.3)
        assert line.audio_ms == held_ms, "nothing is sent while held"
        assert await speaker.hold(), "held already"
        speaker.resume()
        assert speaker.speaking
        utterance = await speech
    assert (utterance.heard_text, utterance.interrupted) == ("Hello there.", False)
    assert line.kinds.count("clear") == 1
    assert route.asked == ["Hello there."]


async def test_held_and_given_up_counts_what_was_heard_when_it_fell_silent() -> None:
    text = "One two three four five six seven eight nine ten."
    async with speaking(ScriptedRoute({text: Script([tone(3_000)])})) as (speaker, line):
        speech = asyncio.create_task(speaker.say(text))
        await until(lambda: line.audio_ms >= 1_400, "some of it")
        assert await speaker.hold()
        heard, held_ms = speaker.heard_so_far, now_ms()
        await asyncio.wait([speech], timeout=0.6)
        await speaker.interrupt()
        utterance = await speech
    assert utterance.interrupted and utterance.heard_text == heard != text
    assert utterance.ended_ms is not None and utterance.ended_ms <= held_ms
    assert line.kinds.count("clear") == 1


async def test_nothing_is_held_when_nothing_is_said() -> None:
    async with speaking(ScriptedRoute()) as (speaker, line):
        assert not await speaker.hold()
        speaker.resume()
        await speaker.say("Hello.")
        assert not await speaker.hold()
        assert "clear" not in line.kinds


async def test_what_was_heard_keeps_its_order_when_our_voice_goes_on_after_the_carrier_s() -> None:
    async def by_carrier(text: str) -> None:
        await asyncio.sleep(1.0)

    first, second = "Hello, and thank you for calling.", "How can I help you today?"
    line = Line()
    voice = voice_of(ScriptedRoute({first: Script([FAILURE])}), last_resort=by_carrier)
    speaker = Speaker(line.send, voice, codec=Codec.PCMU, clock=now_ms)
    line.on_mark = speaker.mark_returned
    sender = asyncio.create_task(speaker.run())
    said = await speaker.say(f"{first} {second}")
    sender.cancel()
    await asyncio.wait([sender])
    await voice.aclose()
    assert said.heard_text == f"{first} {second}"
    assert [(part.route, part.text) for part in said.spoken] == [("telnyx", first), ("sesame_ws", second)]


async def test_a_carrier_that_cannot_speak_either_leaves_nobody_speaking() -> None:
    async def refuse(text: str) -> None:
        raise SpeechError("the carrier is gone", route="telnyx", reason="unreachable")

    line = Line()
    voice = voice_of(ScriptedRoute({"Hello.": Script([FAILURE])}), last_resort=refuse)
    speaker = Speaker(line.send, voice, codec=Codec.PCMU, clock=now_ms)
    with pytest.raises(SpeechError, match="the carrier is gone"):
        await speaker.say("Hello.")
    assert not speaker.speaking
    assert speaker.last is not None
    assert (speaker.last.heard_text, speaker.last.spoken) == ("", ())
    await voice.aclose()


async def test_an_interruption_after_the_voice_failed_while_it_was_held_leaves_the_mouth_free() -> None:
    fail = asyncio.Event()
    route = ScriptedRoute({"One.": Script([tone(400), fail, FAILURE])})
    async with speaking(route) as (speaker, line):
        speech = asyncio.create_task(speaker.say("One."))
        await until(lambda: "media" in line.kinds)
        assert await speaker.hold()
        fail.set()
        with pytest.raises(SpeechError):
            await speech
        await speaker.interrupt()
        assert (await speaker.say("Two.")).heard_text == "Two."
