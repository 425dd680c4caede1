"""Whole calls with a language model: the caller's sound in, answers out; begun ahead; webhooks; no key."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

from backend.core.g711 import Codec
from tests.backend.calls.carrier import CCID, House, house
from tests.backend.calls.fakes import agent, tone, until
from tests.backend.calls.talks import BYE, HELLO, HELP, LLM, ScriptedModel, ScriptedTools, node, to

_LOUD = Codec.PCMU.encode(tone(60)[:320])  # 20 ms of it
URL = "https://crm.example/hook"
_QUIET = b"\xff" * 160


class Ears:
    """Hears speech in loud sound, and what it was told to hear."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self._left = b""

    async def transcribe(self, pcm16_8k: bytes) -> str:
        return self.texts[0] if self.texts else ""

    def push(self, pcm16: bytes) -> list[float]:
        self._left += pcm16
        windows = []
        while len(self._left) >= 512:
            window, self._left = self._left[:512], self._left[512:]
            windows.append(1.0 if max(window[1::2]) and any(0 < byte < 255 for byte in window[1::2]) else 0.0)
        return windows


async def speaks(house_: House, loud_ms: int, quiet_ms: int) -> None:
    """The caller's line, in real time."""
    for number in range((loud_ms + quiet_ms) // 20):
        sound = _LOUD if number * 20 < loud_ms else _QUIET
        house_.carrier.line.hear("media", media={"payload": base64.b64encode(sound).decode()})
        await asyncio.sleep(0.02)


async def test_a_call_with_a_language_model_begun_ahead() -> None:
    model = ScriptedModel(HELLO, ["We are open ", "until six."], ["Bye then."])
    counted: list[str] = []
    ears = Ears("Until when are you open?")
    async with house(
        HELP,
        ears=ears,
        language_model=lambda agent: model,
        toolbox=lambda agent, variables: ScriptedTools(),
        llm_answered=lambda outcome, prompt, completion: counted.append(outcome),
    ) as h:
        h.carrier.ring()
        await h.heard("Hello, how can I help?")
        caller = asyncio.create_task(speaks(h, 500, 600))
        await until(lambda: len(model.asked) == 2, "the request")
        assert [role for role, _ in h.store.spoken()] == ["agent"], "begun before the turn was over"
        await caller
        await h.heard("We are open until six.")
        h.carrier.hang_up()
        await h.calls_over()
    assert [role for role, _ in h.store.spoken()] == ["agent", "caller", "agent"]
    assert len(model.asked) == 2
    assert counted == ["used", "used"]


async def test_a_call_that_ends_in_the_middle_of_an_answer_lets_go_of_the_model() -> None:
    never = asyncio.Event()
    model = ScriptedModel([never])
    async with house(HELP, language_model=lambda agent: model) as h:
        h.carrier.ring()
        await until(lambda: model.asked, "the request")
        h.carrier.hang_up()
        await h.calls_over()
        await until(lambda: model.cancelled == 1, "the request is given up")


async def test_without_a_language_model_the_same_agent_still_speaks() -> None:
    spoken = agent(
        node("ask", "Shall I connect you?", prompt="Ask.", transitions=[to("bye", digits="1")]), BYE, **LLM
    )
    async with house(spoken) as h:
        h.carrier.ring()
        await h.heard("Shall I connect you?")
        h.carrier.line.hear("dtmf", dtmf={"digit": "1"})
        await h.calls_over()
    assert h.store.spoken()[-1] == ("agent", "Goodbye.")


async def test_a_webhook_is_told_what_is_known_and_not_waited_for() -> None:
    sent: list[tuple[str, Mapping[str, Any]]] = []
    gate = asyncio.Event()

    async def send(url: str, data: Mapping[str, Any]) -> None:
        sent.append((url, data))
        await gate.wait()

    flow = agent(
        node("keys", "Your number?", collect={"name": "number", "type": "digits"}, transitions=[to("tell")]),
        node(
            "tell", actions=[{"type": "webhook", "url": "https://crm.example/hook"}], transitions=[to("bye")]
        ),
        BYE,
    )
    async with house(flow, webhook=send) as h:
        h.carrier.ring()
        await h.heard("Your number?")
        for digit in "42#":
            h.carrier.line.hear("dtmf", dtmf={"digit": digit})
        await h.heard("Goodbye.")
        assert not gate.is_set()
        gate.set()
        await h.calls_over()
    ((url, data),) = sent
    assert url == URL
    assert (data["node_id"], data["call_control_id"], data["direction"]) == ("tell", CCID, "inbound")
    assert data["variables"]["number"] == "42"
