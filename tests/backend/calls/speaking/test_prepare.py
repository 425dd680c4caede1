from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backend.calls.ports import RoutePlan
from backend.calls.speaking import prepare as prepare_module
from backend.calls.speaking.prepare import Preparer
from backend.calls.speaking.prepared_voice import PreparedVoice
from backend.core.agent import Agent
from backend.core.agent_text import parse_agent
from backend.core.health import RouteKey
from backend.core.prompts import cut, prompt_key, static_pieces, voice_of
from backend.core.speech import Piece, RouteName, plain_piece
from backend.errors import SpeechError, SpeechFailure
from backend.recorded import APOLOGY, recorded_apology
from backend.storage.prompt_file import Prompt
from backend.storage.prompts import PromptStore
from tests.backend.calls.fakes import Script, ScriptedRoute, now_ms, tone, until

MB = 1 << 20


def agent(say: str = "Hello, {{who}}. How are you?", **more: Any) -> Agent:
    nodes = [
        {"id": "a", "say": say, "transitions": [{"to": "b", "when": {"keywords": ["x"]}}]},
        {"id": "b", "say": "Goodbye.", "actions": [{"type": "hangup"}]},
    ]
    start = {
        "id": "ada",
        "name": "Ada",
        "variables": {"who": None},
        "call_flow": {"start": "a", "nodes": nodes},
    }
    return parse_agent(json.dumps(start | more), file="ada")


def error(reason: SpeechFailure = "unreachable") -> SpeechError:
    return SpeechError("the server is away", route="sesame_ws", reason=reason)


def piece(text: str) -> Piece:
    [only] = cut(text, "en-US")
    return only


class Stage:
    """A preparer over a scripted voice."""

    def __init__(self, dir: Path | None, route: ScriptedRoute | None = None, **more: Any) -> None:
        self.route = route or ScriptedRoute(default_ms=800)
        self.store = PromptStore(dir, max_bytes=MB)
        self.made_routes = 0
        self.skew_ms = 0.0
        self.name: RouteName = more.pop("name", "sesame_ws")
        self.preparer = Preparer(self.store, self.plan, clock=lambda: now_ms() + self.skew_ms, **more)

    def plan(self, agent: Agent) -> list[RoutePlan]:
        def make() -> ScriptedRoute:
            self.made_routes += 1
            return self.route

        return [RoutePlan(RouteKey(self.name, "ws://speech"), "0", make)]

    @contextlib.asynccontextmanager
    async def running(self, *agents: Agent) -> AsyncIterator[None]:
        self.preparer.take_up(agents)
        task = asyncio.create_task(self.preparer.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), task.exception()

    def ready(self, agent: Agent) -> bool:
        voice = self.preparer.voice(agent)
        return all(voice.lookup(item.piece) is not None for item in static_pieces(agent))


async def test_everything_an_agent_says_to_everybody_is_prepared_and_survives_a_restart(
    tmp_path: Path,
) -> None:
    ada = agent(greeting="Hi.")
    stage = Stage(tmp_path)
    async with stage.running(ada):
        await until(lambda: stage.ready(ada))
        voice = stage.preparer.voice(ada)
        assert voice.lookup(piece("How are you?")) and not voice.lookup(piece("Hello, Bob."))
        assert stage.route.asked[:3] == ["Hi.", "How are you?", "Goodbye."]
        await until(lambda: stage.route.closed == 1, "the connection is given back")
    asked = len(stage.route.asked)
    assert len(set(stage.route.asked)) == asked, "nothing twice"

    again = Stage(tmp_path)
    async with again.running(ada):
        await until(lambda: again.ready(ada))
    assert again.route.asked == [] and again.route.connects == []


async def test_what_is_said_before_is_told_to_the_voice() -> None:
    stage = Stage(None)
    await stage.preparer.prepare(agent("One. Two."))
    befores = dict(zip(stage.route.asked, stage.route.befores, strict=True))
    assert befores["One."] == "" and befores["Two."] == "One."


async def test_a_changed_agent_is_prepared_anew_and_only_what_changed(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    ada, changed = agent(), agent("How do you do?")
    async with stage.running(ada):
        await until(lambda: stage.ready(ada))
        del stage.route.asked[:]
        stage.preparer.take_up([changed])
        await until(lambda: stage.ready(changed))
        assert stage.route.asked == ["How do you do?"]
        del stage.route.asked[:]
        louder = agent(sesame_settings={"speaker_id": 4})
        stage.preparer.take_up([changed, louder])
        await until(lambda: stage.ready(louder))
        assert len(stage.route.asked) > 3, "another voice says everything itself"


async def test_a_voice_that_is_down_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ada, stage = agent(), Stage(tmp_path)
    stage.route.failure = error()
    with caplog.at_level(logging.INFO):
        async with stage.running(ada):
            for wait_ms, attempts in ((2_000, 1), (4_000, 2), (8_000, 3)):
                await until(lambda: len(stage.route.connects) == attempts)  # noqa: B023 - awaited here
                await until(lambda: stage.route.closed == attempts)  # noqa: B023 - awaited here
                stage.skew_ms += wait_ms + 1
                stage.preparer.take_up([ada])
            await until(lambda: len(stage.route.connects) == 4)
            warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert len(warnings) == 1 and "Tried again in 2 s" in caplog.text
            assert "the server is away" in caplog.text
            stage.route.failure = None
            stage.preparer.voice(ada).note(
                piece("Goodbye.")
            )  # a call got through: no need to wait any longer
            await until(lambda: stage.ready(ada))
            await until(lambda: "prompts are ready" in caplog.text)


@pytest.mark.parametrize("reason", ["unauthorized", "quota", "unknown_voice"])
async def test_what_only_an_operator_can_mend_is_asked_for_seldom(
    reason: SpeechFailure, caplog: pytest.LogCaptureFixture
) -> None:
    ada, stage = agent(), Stage(None)
    stage.route.failure = error(reason)
    async with stage.running(ada):
        await until(lambda: "Tried again in 300 s" in caplog.text)


async def test_a_failure_in_the_middle_keeps_what_was_made(tmp_path: Path) -> None:
    ada = agent()
    route = ScriptedRoute({"Goodbye.": Script([tone(40), error("closed")])}, default_ms=800)
    stage = Stage(tmp_path, route)
    async with stage.running(ada):
        await until(lambda: route.closed == 1)
        assert stage.preparer.voice(ada).lookup(piece("How are you?"))
        assert stage.preparer.voice(ada).lookup(piece("Goodbye.")) is None, "half a word is no prompt"
        route.scripts.clear()
        stage.skew_ms += 2_001
        stage.preparer.take_up([ada])
        await until(lambda: stage.ready(ada))
    assert route.asked.count("How are you?") == 1


async def test_one_text_the_voice_cannot_say_does_not_hold_up_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ada = agent()
    stage = Stage(None, ScriptedRoute({"How are you?": Script([error("bad_request")])}, default_ms=800))
    async with stage.running(ada):
        voice = stage.preparer.voice(ada)
        await until(lambda: voice.lookup(piece("Goodbye.")))
        for _ in range(3):
            closed = stage.route.closed
            stage.skew_ms += 300_001
            stage.preparer.take_up([ada])
            if stage.route.asked.count("How are you?") < 3:
                await until(lambda: stage.route.closed > closed)  # noqa: B023 - awaited here
        await until(lambda: "its voice cannot say it" in caplog.text)
        assert stage.route.asked.count("How are you?") == 3
        assert stage.route.asked.count("Goodbye.") == 1


async def test_it_waits_for_a_moment_without_calls_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "_LOOK_S", 0.001)
    ada, stage = agent(), Stage(None)
    asked_at_look: list[int] = []

    def busy() -> bool:
        asked_at_look.append(len(stage.route.asked))
        return True

    stage.preparer = Preparer(stage.store, stage.plan, clock=now_ms, busy=busy)
    async with stage.running(ada):
        await until(lambda: stage.ready(ada))
    pieces = len(stage.route.asked)
    assert asked_at_look == [piece for piece in range(pieces) for _ in range(80)]


async def test_it_stops_cleanly_in_the_middle_of_a_word() -> None:
    gate = asyncio.Event()
    stage = Stage(None, ScriptedRoute({"How are you?": Script([tone(20), gate])}, default_ms=800))
    async with stage.running(agent()):
        await until(lambda: stage.route.asked == ["How are you?"])
    assert stage.route.scripts["How are you?"].state == "cancelled"
    assert stage.route.closed == 1


async def test_prompts_an_operator_cleared_are_made_anew(tmp_path: Path) -> None:
    ada, stage = agent(), Stage(tmp_path)
    async with stage.running(ada):
        await until(lambda: stage.ready(ada))
        await until(lambda: stage.route.closed == 1)
        asked = len(stage.route.asked)
        operator = PromptStore(tmp_path, max_bytes=MB)
        for key, _ in list(operator.prompts()):
            operator.drop(key)
        stage.skew_ms += 60_001
        stage.preparer.take_up([ada])
        await until(lambda: len(stage.route.asked) == 2 * asked)
        await until(lambda: stage.ready(ada))


async def test_a_store_without_room_does_not_have_prompts_made_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ada, stage = agent(), Stage(None)
    stage.store = PromptStore(None, max_bytes=0, memory_bytes=100)
    stage.preparer = Preparer(stage.store, stage.plan, clock=lambda: now_ms() + stage.skew_ms)
    async with stage.running(ada):
        for rounds in (1, 2, 3):
            await until(lambda: stage.route.closed == rounds)  # noqa: B023 - awaited here
            stage.skew_ms += 60_001
            stage.preparer.take_up([ada])
        # The fourth round finds nothing that it would do again; another agent's comes after it.
        other = agent("Something else.", id="bob")
        stage.preparer.take_up([ada, other])
        await until(lambda: stage.route.closed == 4)
    assert stage.route.asked.count("Something else.") == 1
    asked = stage.route.asked[: 3 * len(static_pieces(ada))]
    assert {asked.count(text) for text in asked} == {3}
    assert caplog.text.count("PROMPTS_MAX_MB") == 1


async def test_another_engine_behind_the_route_makes_its_own(tmp_path: Path) -> None:
    engine = "preview"

    async def maker(plan: RoutePlan) -> str:
        return engine

    ada, stage = agent(), Stage(tmp_path, maker=maker)
    async with stage.running(ada):
        await until(lambda: stage.ready(ada) and stage.route.closed == 1)
        asked = len(stage.route.asked)
        engine = "csm sesame/csm-1b"
        stage.skew_ms += 60_001
        stage.preparer.take_up([ada])
        await until(lambda: stage.route.closed == 2)
    assert len(stage.route.asked) == 2 * asked
    assert {prompt.maker for _, prompt in stage.store.prompts()} == {engine}


async def test_prepare_now_tells_how_far_it_is(tmp_path: Path) -> None:
    stage, told = Stage(tmp_path), list[tuple[int, int, str]]()
    made, there = await stage.preparer.prepare(agent(), told=lambda *item: told.append(item))
    assert made == there == len(told) == told[-1][0] == told[-1][1] > 5
    assert told[0][2] == "How are you?"
    assert await stage.preparer.prepare(agent()) == (0, there)
    stage.route.failure = error()
    with pytest.raises(SpeechError, match="away"):
        await stage.preparer.prepare(agent("Another thing."))


async def test_the_carriers_own_voice_has_nothing_prepared() -> None:
    ada, stage = agent(), Stage(None, name="telnyx")
    assert await stage.preparer.prepare(ada) == (0, 0)
    voice = stage.preparer.voice(ada)
    assert voice.lookup(piece("Goodbye.")) is None
    voice.prepare_soon(["Goodbye."])
    voice.note(piece("Goodbye."))
    assert voice.apology() is not None
    await voice.aclose()
    assert stage.route.asked == []


# --- one call ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def call(stage: Stage, ada: Agent) -> AsyncIterator[PreparedVoice]:
    voice = stage.preparer.voice(ada)
    try:
        yield voice
    finally:
        await voice.aclose()


async def test_what_may_be_said_next_is_made_for_the_call_alone(tmp_path: Path) -> None:
    ada, stage = agent(), Stage(tmp_path)
    async with call(stage, ada) as voice:
        voice.prepare_soon(["Hello, Bob. How are you?"])
        await until(lambda: voice.lookup(piece("Hello, Bob.")) and voice.lookup(piece("How are you?")))
    assert {prompt.text for _, prompt in stage.store.prompts()} == {"How are you?"}, (
        "a caller's name is not kept"
    )
    assert stage.preparer.voice(ada).lookup(piece("Hello, Bob.")) is None
    assert stage.route.closed == 1


async def test_the_first_pieces_come_first_and_not_too_many() -> None:
    stage = Stage(None)
    async with call(stage, agent()) as voice:
        voice.prepare_soon([f"First of {n}. Second of {n}." for n in ("one", "two", "three", "four")])
        await until(lambda: len(stage.route.asked) == 6 and voice.lookup(piece(stage.route.asked[-1])))
    assert stage.route.asked == [
        *(f"First of {n}." for n in ("one", "two", "three", "four")),
        "Second of one.",
        "Second of two.",
    ]


async def test_what_is_not_wanted_any_more_is_given_up() -> None:
    gate = asyncio.Event()
    stage = Stage(None, ScriptedRoute({"Old.": Script([tone(20), gate])}))
    async with call(stage, agent()) as voice:
        voice.prepare_soon(["Old.", "Older."])
        await until(lambda: stage.route.asked == ["Old."])
        voice.prepare_soon(["New."])
        await until(lambda: voice.lookup(piece("New.")))
        assert stage.route.scripts["Old."].state == "cancelled"
        assert stage.route.asked == ["Old.", "New."] and stage.made_routes == 1
        voice.prepare_soon([])


async def test_what_is_being_made_and_still_wanted_goes_on() -> None:
    gate = asyncio.Event()
    stage = Stage(None, ScriptedRoute({"Kept.": Script([tone(20), gate, tone(20)])}))
    async with call(stage, agent()) as voice:
        voice.prepare_soon(["Kept.", "Old."])
        await until(lambda: stage.route.asked == ["Kept."])
        voice.prepare_soon(["New.", "Kept."])
        gate.set()
        await until(lambda: voice.lookup(piece("Kept.")) and voice.lookup(piece("New.")))
    assert stage.route.asked == ["Kept.", "New."]


async def test_a_voice_that_fails_ahead_harms_nobody_and_is_asked_again_next_time() -> None:
    stage = Stage(None)
    stage.route.failure = error()
    async with call(stage, agent()) as voice:
        voice.prepare_soon(["One.", "Two."])
        await until(lambda: stage.route.closed == 1)
        stage.route.failure = None
        voice.prepare_soon(["Three."])
        await until(lambda: voice.lookup(piece("Three.")))
    assert stage.route.asked == ["One.", "Three."]


async def test_the_end_of_a_call_stops_what_is_made_for_it() -> None:
    gate = asyncio.Event()
    stage = Stage(None, ScriptedRoute({"One.": Script([gate])}))
    async with call(stage, agent()) as voice:
        voice.prepare_soon(["One."])
        await until(lambda: stage.route.asked)
    assert stage.route.scripts["One."].state == "cancelled"
    voice.prepare_soon(["Two."])
    assert stage.route.asked == ["One."], "nothing after the end"


async def test_few_calls_at_a_time_have_something_made() -> None:
    gates = {f"Text {n}.": Script([asyncio.Event()]) for n in ("a", "b", "c")}
    stage = Stage(None, ScriptedRoute(gates))
    async with contextlib.AsyncExitStack() as stack:
        voices = [await stack.enter_async_context(call(stage, agent())) for _ in gates]
        for voice, text in zip(voices, gates, strict=True):
            voice.prepare_soon([text])
        await until(lambda: len(stage.route.asked) == 2)
        voices[0].prepare_soon([])
        await until(lambda: len(stage.route.asked) == 3)


async def test_a_vendor_who_is_paid_by_the_word_makes_nothing_ahead_but_what_is_static() -> None:
    ada = agent(tts_provider="elevenlabs", elevenlabs_settings={"voice_id": "v"})
    stage = Stage(None, name="elevenlabs")
    async with call(stage, ada) as voice:
        voice.prepare_soon(["Hello, Bob."])
        made, _ = await stage.preparer.prepare(ada)
        assert made > 5 and "Hello, Bob." not in stage.route.asked
        assert voice.lookup(piece("Goodbye."))


async def test_an_apology_needs_no_voice() -> None:
    own = agent(failover={"apology": "Sorry, {{agent_name}} cannot speak."})
    stage = Stage(None)
    shipped = stage.preparer.voice(own).apology()
    assert shipped is not None and (shipped.ulaw, shipped.text) == (recorded_apology("en"), APOLOGY)
    await stage.preparer.prepare(own)
    prepared = stage.preparer.voice(own).apology()
    assert prepared is not None and prepared.text == "Sorry, Ada cannot speak."
    assert prepared.ulaw == stage.preparer.voice(own).lookup(piece("Sorry, Ada cannot speak."))
    assert "Sorry, Ada cannot speak." in stage.route.asked

    german = agent(language="de-DE", stt={"provider": "telnyx"})
    assert stage.preparer.voice(german).apology() is None


async def test_the_shipped_recording_says_what_agents_say_by_default() -> None:
    assert agent().failover.apology == APOLOGY


def test_looking_up_needs_no_event_loop() -> None:
    ada, stage = agent(), Stage(None)
    voice_name = voice_of(ada, "sesame_ws")
    assert voice_name is not None
    stage.store.put(prompt_key(voice_name, "Goodbye."), Prompt(b"\xff" * 800, "Goodbye.", voice_name))
    voice = stage.preparer.voice(ada)
    assert voice.lookup(plain_piece("Goodbye.")) == b"\xff" * 800
