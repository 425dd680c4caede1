"""What a call needs from the outside, as protocols: any voice, any ears, any socket that fits will do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from backend.calls.boards.route_board import RouteBoard
from backend.core.agent import Agent
from backend.core.cost import Prices
from backend.core.health import RouteKey
from backend.core.hearing import CarrierHearing, EarKey
from backend.core.llm import LlmEvent, Message, ToolCall, ToolSpec
from backend.core.records import (
    CallRecord,
    CallRecording,
    CallState,
    Direction,
    ToolUse,
    TurnRecord,
    TurnTimings,
)
from backend.core.speech import Piece, RouteName, Sound

Clock = Callable[[], float]
"""Milliseconds on a monotonic clock."""


class SpeechRoute(Protocol):
    """A way to speak. See `backend.tts`."""

    @property
    def name(self) -> RouteName:
        """As records and metrics name it."""

    async def connect(self) -> None:
        """Get ready, so that the first word comes sooner. Raises SpeechError."""

    def speak(self, text: str, *, before: str = "") -> AsyncGenerator[Sound]:
        """Sound as it is made; `before`: what was said directly before, for the melody of it.

        Closing it early cancels the request. Raises SpeechError; `no_audio` when text gave no sound.
        """

    async def aclose(self) -> None:
        """Let go of everything, within a second."""


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """A route a call may use. `make` gives an adapter of the call's own, not yet connected."""

    key: RouteKey
    voice_id: str
    """Whose voice, as far as its sound goes: for calibration and for prepared prompts."""
    make: Callable[[], SpeechRoute]
    asked_anew: bool = False
    """After a failure that shows itself at once it is asked again, over a fresh connection, before others."""
    speed: float = 1.0
    """At which this voice is asked to speak, as a multiple of its own: not everybody has it at the same."""


class Transcriber(Protocol):
    """Speech-to-text. See `backend.stt`."""

    async def transcribe(self, pcm16_8k: bytes) -> str:
        """Words of one utterance; "" for none. Raises HearingError."""


MelodyJudge = Callable[[bytes], Awaitable[float | None]]
"""A turn so far, int16 at 8 kHz → how likely its speaker is done, 0 to 1; None: no opinion.
See `backend.stt.smart_turn`."""


@runtime_checkable
class StreamingTranscriber(Transcriber, Protocol):
    """Speech-to-text that may get a turn's audio as it comes. When the turn ends is not its affair."""

    async def connect(self) -> None:
        """Get ready, so that the first words come sooner. Raises HearingError."""

    def hear(self, pcm16_8k: bytes, *, begins: bool) -> None:
        """The next audio of the turn under way; `begins`: the first of a new turn. Returns at once.

        `transcribe` is given all of it once more, perhaps several times, with what has come since.
        """

    async def aclose(self) -> None:
        """Let go of everything, within a second."""


@runtime_checkable
class CarrierTold(Protocol):
    """Speech-to-text that the carrier tells words by webhook."""

    def told(self, text: str, *, final: bool, at: str = "") -> None:
        """Words of the caller: `final`, or so far; `at`: the carrier's own time of it, as text that sorts."""


class CallEars(StreamingTranscriber, CarrierTold, Protocol):
    """One call's speech-to-text, whatever its routes are. See `backend.calls.hearing.ears`."""


StartHearing = Callable[[CarrierHearing], Awaitable[None]]
"""Has the carrier listen along. Raises HearingError."""


@dataclass(frozen=True, slots=True)
class EarPlan:
    """A route a call may hear by. `make`: an adapter; one that streams is the call's own."""

    key: EarKey
    make: Callable[[StartHearing], Transcriber]
    early: bool = False
    """Must listen along from the beginning, even as a fallback."""


class LanguageModel(Protocol):
    """What answers freely; one is shared by all calls of an agent. See `backend.llm`."""

    def reply(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> AsyncGenerator[LlmEvent]:
        """The model's answer as it is made: text, tool calls, at last what it cost.

        Closing it early cancels the request. Raises LlmError, also after text has been given.
        """

    async def aclose(self) -> None:
        """Let go of everything, within a second."""


class Toolbox(Protocol):
    """An agent's tools. See `backend.llm`."""

    async def call(self, call: ToolCall) -> str:
        """The result, as text for the model. Raises ToolError with a sentence for the model."""


class VoiceDetector(Protocol):
    """Voice activity, one instance a call."""

    def push(self, pcm16: bytes) -> list[float]:
        """Probabilities of the 32 ms windows that this int16 8 kHz audio completes."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Sound, μ-law at 8 kHz, and what it says."""

    ulaw: bytes
    text: str


class PreparedVoice(Protocol):
    """What was synthesised beforehand in one call's voice. See `backend.calls.speaking.prepared_voice`."""

    def lookup(self, piece: Piece) -> bytes | None:
        """Its sound, μ-law at 8 kHz; at once."""

    def note(self, piece: Piece) -> None:
        """A route has just spoken this piece whole: what is prepared for others can be, now."""

    def prepare_soon(self, texts: Sequence[str]) -> None:
        """These may be said next. Returns at once; what an earlier call asked for is given up."""

    def apology(self) -> Recording | None:
        """For when no voice is left."""

    async def aclose(self) -> None:
        """Stop preparing."""


class MediaSocket(Protocol):
    """The carrier's end of the media WebSocket."""

    async def send(self, frame: str) -> None:
        """Send one text frame. Raises ConnectionError when the socket is gone."""

    async def receive(self) -> str | None:
        """The next text frame; None when the socket was closed."""

    async def close(self) -> None:
        """Close it, within a bounded time."""


class Store(Protocol):
    """What calls need of the database. See `backend.storage.calls`."""

    async def create(self, call: CallRecord) -> CallRecord:
        """Keep a new call; an idempotency key known already gives the earlier call."""

    async def update(self, call_id: str, **changes: object) -> CallRecord:
        """Change fields of a call."""

    async def add_turn(self, call_id: str, turn: TurnRecord) -> None:
        """Keep a turn; the same index again replaces it."""

    async def add_tool(self, call_id: str, tool: ToolUse) -> None:
        """Keep what a tool did; the same index again replaces it."""

    async def keep_recording(self, call_id: str, told: CallRecording) -> None:
        """Keep what is told of a recording: see `backend.core.recordings`."""

    async def find(
        self,
        *,
        call_id: str | None = None,
        call_control_id: str | None = None,
        call_leg_id: str | None = None,
        call_session_id: str | None = None,
    ) -> str | None:
        """Our id of the call that has one of these ids, the first that is known."""

    async def get(self, any_id: str) -> CallRecord | None:
        """A call by our id or the carrier's."""


class Carrier(Protocol):
    """What a call needs of the carrier. See `backend.telnyx.control`."""

    async def answer(self, ccid: str, *, command_id: str) -> None: ...

    async def start_streaming(
        self, ccid: str, *, stream_url: str, auth_token: str, codec: Literal["PCMU", "PCMA"], command_id: str
    ) -> None: ...

    async def hangup(self, ccid: str, *, command_id: str) -> None: ...

    async def transfer(self, ccid: str, *, to: str, command_id: str) -> None: ...

    async def send_dtmf(self, ccid: str, *, digits: str, command_id: str) -> None: ...

    async def speak(self, ccid: str, *, text: str, language: str, command_id: str) -> None: ...

    async def stop_speaking(self, ccid: str, *, command_id: str) -> None: ...


@runtime_checkable
class ListeningCarrier(Protocol):
    """A carrier that can listen along."""

    async def start_transcription(
        self, ccid: str, *, model: str | None, language: str, key_terms: Sequence[str], command_id: str
    ) -> None: ...


@runtime_checkable
class RecordingCarrier(Protocol):
    """A carrier that can record."""

    async def start_recording(
        self,
        ccid: str,
        *,
        channels: Literal["single", "dual"],
        audio_format: Literal["mp3", "wav"],
        client_state: str,
        command_id: str,
    ) -> None: ...

    async def stop_recording(self, ccid: str, *, command_id: str) -> None: ...


SendWebhook = Callable[[str, Mapping[str, object]], Awaitable[None]]
"""Sends a call's data to an address, within seconds; logs what fails, and raises nothing."""


class Observer(Protocol):
    """Who counts calls and turns. See `backend.web.metrics`."""

    def call_moved(self, direction: Direction, before: CallState | None, now: CallState) -> None: ...

    def turn_answered(self, timings: TurnTimings) -> None: ...


def _nothing_prepared(agent: Agent) -> PreparedVoice | None:
    return None


def _no_model(agent: Agent) -> LanguageModel | None:
    return None


def _no_tools(agent: Agent, variables: MutableMapping[str, str]) -> Toolbox | None:
    return None


def _nobody_counts(outcome: LlmOutcome, prompt_tokens: int, completion_tokens: int) -> None:
    return None


LlmOutcome = Literal["used", "failed", "wasted"]
"""What became of an answer of the language model's; `wasted`: begun ahead of time and thrown away."""


@dataclass(frozen=True, slots=True)
class CallParts:
    """What every call is made of; given once, by the composition root."""

    carrier: Carrier
    store: Store
    transcriber: Transcriber
    make_detector: Callable[[], VoiceDetector]
    plan_routes: Callable[[Agent], Sequence[RoutePlan]]
    """How an agent may speak, best first, for one call."""
    board: RouteBoard
    clock: Clock
    observer: Observer
    media_url: str
    """`wss://…/media`, what the carrier can reach."""
    prepared: Callable[[Agent], PreparedVoice | None] = _nothing_prepared
    make_ears: Callable[[Agent, StartHearing], CallEars] | None = None
    """An agent's ways to hear, for one call; None: `transcriber` alone."""
    language_model: Callable[[Agent], LanguageModel | None] = _no_model
    """What an agent thinks by; shared by its calls, which do not close it."""
    toolbox: Callable[[Agent, MutableMapping[str, str]], Toolbox | None] = _no_tools
    """An agent's tools for one call, whose variables are read as they are at the time, and set."""
    llm_answered: Callable[[LlmOutcome, int, int], None] = _nobody_counts
    """Told of each answer: what became of it, prompt and completion tokens."""
    prices: Prices = Prices()
    """What a call is reckoned to cost by."""
    webhook: SendWebhook | None = None
    """Tells another system; None: webhooks are not sent."""
    judge_melody: MelodyJudge | None = None
    """A second opinion on whether the caller is done; None: their words alone tell."""
    timezone: str | None = None
    """Where agents are at home that do not say; None: where this machine is."""
