"""`voice-agent chat`: a call with an agent where you type and read, and hear it when a voice is there.

In writing, time stands still while you think; with a voice it passes as on the telephone, and typing while
the agent speaks interrupts it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
import wave
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from backend.app import now_ms
from backend.calls.boards.llm_board import LlmBoard
from backend.calls.boards.route_board import RouteBoard
from backend.calls.manager import DiallingCarrier
from backend.calls.ports import CallParts
from backend.core.agent import Agent
from backend.core.g711 import RATE_HZ, Codec
from backend.core.records import Direction
from backend.core.templates import call_variables
from backend.errors import BackendError, ConfigError, SpeechError
from backend.evals.chat_view import ChatView
from backend.evals.foretold import foretold
from backend.evals.leaping import LeapingLoop, run_leaping
from backend.evals.memory import MEDIA_URL, MemoryCall, MemoryStore, NobodyCounts
from backend.evals.mind import thinking_mind
from backend.evals.sound_card import SoundCard
from backend.evals.text_call import Mind, loop_clock, written_call, written_parts
from backend.evals.typed import HELP, Keys, Quit, Silence, Told, Typed, Words, read_typed
from backend.evals.warnings import warnings_told
from backend.evals.written import WrittenActivity, WrittenAnnouncer, WrittenEars, utterance
from backend.settings import Settings, secrets_of
from backend.simulator.caller import KEY_GAP_MS
from backend.simulator.orders import Plan
from backend.simulator.ports import Surroundings
from backend.simulator.script import LISTENER
from backend.speech_routes import SpeechRoutes
from backend.thinking import Thinking

_LOOK_S = 4.0
_QUIET_S = 3.0  # without a word for so long, and nothing waited for, it is your turn
_AFTER_SILENCE_S = 0.5  # of that, where you said nothing: time for what answers it to begin
_TICK_S = 0.02
_TYPED_CHARACTER = 160  # samples: typed words reach the agent faster than spoken ones
_TYPED_LEAST = 16  # characters: a shorter sound would be no speech


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What was asked for on the command line."""

    text: bool = False
    save: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


def run_chat(
    console: Console, settings: Settings, agent: Agent, options: ChatOptions, secrets: Mapping[str, str]
) -> int:
    """Talk until either side hangs up. → exit status 0. Raises ConfigError, and BackendError for a call
    that cannot be had."""
    chat = _Chat(console, settings, agent, options, secrets)
    with _without_warnings():
        reason = "" if options.text else asyncio.run(_no_voice(settings, agent))
    if options.save is not None and (options.text or reason):
        raise ConfigError(f"--save needs a voice: {reason or 'leave --text out'}")
    with suppress(KeyboardInterrupt), warnings_told(chat.view.warned, secrets_of(settings)):
        if options.text or reason:
            if reason:
                chat.view.told(f"In writing only: {reason}")
            chat.view.voiced = False
            run_leaping(chat.in_text())
        else:
            asyncio.run(chat.aloud())
    return 0


@contextmanager
def _without_warnings() -> Iterator[None]:
    """What routes complain of on their own is told in one sentence instead."""
    log = logging.getLogger("backend")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


async def _no_voice(settings: Settings, agent: Agent) -> str:
    """Why nothing can be heard of the agent on this machine, and what to do; "": it can."""
    problem = "no speech route is set up"
    async with SpeechRoutes(settings, RouteBoard(now_ms), lambda: [agent], now_ms) as routes:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await routes.pods.looked()
        for plan in routes.plans_ahead(agent):
            route = plan.make()
            try:
                async with asyncio.timeout(_LOOK_S):
                    await route.connect()
                return ""
            except TimeoutError:
                problem = f"{plan.key} does not answer"
            except SpeechError as error:
                problem = str(error)
            finally:
                await route.aclose()
    return f"{problem.rstrip('.')}. Start a voice in another terminal: ENGINE=preview sesame-server"


class _Chat:
    """One chat."""

    def __init__(
        self,
        console: Console,
        settings: Settings,
        agent: Agent,
        options: ChatOptions,
        secrets: Mapping[str, str],
    ) -> None:
        self.view = ChatView(console)
        self._settings, self._agent, self._options, self._secrets = settings, agent, options, secrets
        self._direction: Direction = "inbound" if agent.phone_numbers else "outbound"
        self._variables = dict(options.variables)
        self._seen = 0
        self._quiet_since_s: float | None = None  # in writing: how long nobody has spoken

    # --- in writing --------------------------------------------------------------------------------------

    async def in_text(self) -> None:
        """Time stands still while the next line is typed."""
        async with AsyncExitStack() as stack:
            parts = partial(written_parts, mind=await self._mind(stack), character=_TYPED_CHARACTER)
            call = written_call(
                self._agent, _listener(), make_parts=parts, on_turn=self.view.turn, on_node=self.view.entered
            )
            await stack.enter_async_context(call)
            await self._begin(call)
            while not await self._quiet(call):
                if not await self._act(call, self._something_to_do()):
                    break
            await self._finish(call)

    def _something_to_do(self) -> Typed:
        """What is typed next that is to be done in the call."""
        while True:
            line = _ask()
            typed: Typed | None = Quit() if line is None else read_typed(line)
            if isinstance(typed, Told):
                self.view.told(typed.text)
            elif typed is not None:
                return typed

    async def _quiet(self, call: MemoryCall) -> bool:
        """Returns once nobody has spoken for a while, or the call is over: whether it is."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, LeapingLoop)
        line = call.sim.conversation.line
        since_s = loop.time() if self._quiet_since_s is None else loop.time() - _QUIET_S + _AFTER_SILENCE_S
        while call.sim.state != "ended" and loop.time() - since_s < _QUIET_S:
            await asyncio.sleep(_TICK_S)
            self._tell_of_line(call)
            if line.caller_speaking or line.queue.queued_ms or line.announcing or loop.waits:
                since_s, self._quiet_since_s = loop.time(), None
        if self._quiet_since_s is None:
            self._quiet_since_s = since_s
        return call.sim.state == "ended"

    # --- aloud -------------------------------------------------------------------------------------------

    async def aloud(self) -> None:
        """As on the telephone: time passes, and who types while the agent speaks interrupts it."""
        async with AsyncExitStack() as stack:
            routes = SpeechRoutes(self._settings, RouteBoard(now_ms), lambda: [self._agent], now_ms)
            await stack.enter_async_context(routes)
            mind = await self._mind(stack)
            around = partial(
                Surroundings, voice=WrittenAnnouncer(), ears=_NoEars(), make_activity=WrittenActivity
            )
            call = MemoryCall(
                self._agent, _listener(), partial(self._parts, routes, mind), around,
                on_turn=self.view.turn, on_node=self.view.entered,
            )  # fmt: skip
            card, problem = SoundCard.open(RATE_HZ)
            if card is None:
                self.view.told(f"You read what is said: {problem}")
            else:
                stack.callback(card.close)
            stack.callback(self._save, call)
            await stack.enter_async_context(call)
            await self._begin(call)
            lines = _typed_lines()
            while (
                call.sim.state != "ended" and (line := await self._next_line(call, lines, card)) is not None
            ):
                if not await self._act(call, read_typed(line)):
                    break
            await self._finish(call)

    async def _next_line(
        self, call: MemoryCall, lines: asyncio.Queue[str | None], card: SoundCard | None
    ) -> str | None:
        """The next line typed, while what is heard is played; None: the call is over, or no line comes."""
        while call.sim.state != "ended":
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    return await lines.get()
            self._tell_of_line(call)
            if card is not None:
                card.play(call.sim.conversation.line)
        return None

    def _parts(
        self, routes: SpeechRoutes, mind: Mind, carrier: DiallingCarrier, store: MemoryStore
    ) -> CallParts:
        return CallParts(
            carrier=carrier, store=store, transcriber=WrittenEars(character=_TYPED_CHARACTER),
            make_detector=WrittenActivity, plan_routes=routes.plans, board=RouteBoard(now_ms), clock=now_ms,
            observer=NobodyCounts(), media_url=MEDIA_URL, language_model=mind.language_model,
            toolbox=mind.toolbox, timezone=mind.timezone,
        )  # fmt: skip

    def _save(self, call: MemoryCall) -> None:
        """What was heard of the agent, as far as the call went."""
        if self._options.save is None:
            return
        try:
            with wave.open(str(self._options.save), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(RATE_HZ)
                file.writeframes(call.sim.conversation.line.heard_from(0.0))
        except OSError as error:
            raise BackendError(f"{self._options.save} cannot be written: {error.strerror}") from error
        self.view.told(f"Saved: {self._options.save}")

    # --- both --------------------------------------------------------------------------------------------

    async def _mind(self, stack: AsyncExitStack) -> Mind:
        thinking = Thinking(self._settings, self._secrets, LlmBoard(loop_clock))
        for sentence in foretold(self._agent, self._settings, self._secrets):
            self.view.warned(sentence)
        view = self.view
        return thinking_mind(thinking, stack, view.tool, self._settings.timezone, view.tool_begins)

    async def _begin(self, call: MemoryCall) -> None:
        self.view.told(
            f"{self._agent.name} {'picks up' if self._direction == 'inbound' else 'calls'}. {HELP}"
        )
        await call.place(self._direction, self._variables)

    async def _act(self, call: MemoryCall, typed: Typed | None) -> bool:
        """Do what was typed. False: the caller hangs up."""
        quiet_since_s, self._quiet_since_s = self._quiet_since_s, None
        match typed:
            case Words(text):
                written = utterance(text.ljust(_TYPED_LEAST), character=_TYPED_CHARACTER)
                call.sim.conversation.line.say(written)
            case Keys(digits):
                for digit in digits:
                    call.sim.conversation.press(digit)
                    await asyncio.sleep(KEY_GAP_MS / 1000)
            case Silence(seconds):
                self._quiet_since_s = quiet_since_s
                await self._wait(call, seconds)
            case Told(text):
                self.view.told(text)
            case Quit():
                return False
        return True

    async def _wait(self, call: MemoryCall, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time() if self._quiet_since_s is None else self._quiet_since_s
        until_s = began_s + seconds
        while loop.time() < until_s and call.sim.state != "ended":  # noqa: ASYNC110 - time is what is wanted
            await asyncio.sleep(_TICK_S)
        if self._quiet_since_s is not None:
            self._quiet_since_s = loop.time()

    async def _finish(self, call: MemoryCall) -> None:
        if call.sim.state != "ended":
            call.sim.end_by_caller()
        record = await call.ended()
        self._tell_of_line(call)
        self.view.ended(record, _given(self._variables))

    def _tell_of_line(self, call: MemoryCall) -> None:
        for event in call.events.after(self._seen):
            self._seen = int(event["seq"])
            self.view.line(str(event["kind"]), event["data"])


class _NoEars:
    """Nobody reads what was heard: it stands in the transcript."""

    async def transcribe(self, pcm16_8k: bytes) -> str:
        """No words."""
        return ""


def _listener() -> Plan:
    """Somebody who picks up and waits to be told what to do."""
    return Plan(LISTENER, {}, Codec.PCMU)


def _given(variables: Mapping[str, str]) -> frozenset[str]:
    filled = call_variables(
        agent_name="", caller_number="", called_number="", direction="inbound",
        now=datetime.now().astimezone(),
    )  # fmt: skip
    return frozenset((*filled, *variables))


def _ask() -> str | None:
    """The next line typed; None at the end of input and on Ctrl-C. Nothing else happens meanwhile."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        line = input("you    " if sys.stdin.isatty() else "")
    except (EOFError, KeyboardInterrupt):
        print()
        return None
    finally:
        signal.signal(signal.SIGINT, before)
    if not sys.stdin.isatty():
        print(f"you    {line}", flush=True)
    return line


def _typed_lines() -> asyncio.Queue[str | None]:
    """Lines as they are typed, then None. The thread that waits for them ends with the process."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str | None]()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line.rstrip("\n"))
        loop.call_soon_threadsafe(lines.put_nowait, None)

    def guarded() -> None:
        with suppress(RuntimeError):  # the loop is closed: the chat is over
            read()

    threading.Thread(target=guarded, name="typed lines", daemon=True).start()
    return lines
