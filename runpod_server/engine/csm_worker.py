"""The one thread that owns the model: between two frames it admits, reads, pauses and ends; then it steps.

Requests come as commands, sound goes out in batches. It never waits for a client.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from runpod_server.audio import SAMPLE_BYTES, ms_of, samples_in
from runpod_server.engine.conversations import Conversations
from runpod_server.engine.csm_request import Asked
from runpod_server.engine.pace import Pace, PaceRules
from runpod_server.engine.reading import Costs, Gap, ReadingQueue, ReadingRules
from runpod_server.engine.request import EndReason, HeardTurn
from runpod_server.engine.silence import SilenceGate, SilenceRules
from runpod_server.engine.slot_book import SlotBook
from runpod_server.engine.speech_plan import FRAME_MS, frame_limit, seed_of_part
from runpod_server.errors import BadRequest, GenerationFailed, SpeechError, StartError

if TYPE_CHECKING:
    from runpod_server.engine.csm_stage import Codes, MadeFrame, Pending, Stage
    from runpod_server.model.prompt import Turn

log = logging.getLogger(__name__)

Result = TypeVar("Result")

End = EndReason | SpeechError


class Listener(Protocol):
    """Whoever a request is spoken for. Both attributes are read or written by one side only."""

    taken_ms: float  # how much of its sound was fetched
    paused: bool  # whether the model waits for it: the fetcher must then call `Worker.wake`


@dataclass(frozen=True, slots=True)
class Delivery:
    """Sound for one listener, and how its request ended, if it did."""

    listener: Listener
    pcm16: bytes
    end: End | None


class Hub(Protocol):
    """Whom a worker reports to, from its thread."""

    def post(self, batch: list[Delivery]) -> None:
        """Sound and ends."""

    def ready(self, device: Literal["cuda", "cpu"] | None, failure: StartError | None) -> None:
        """The model is loaded and warm, on this device; or why not."""

    def died(self) -> None:
        """The thread has ended by a fault of this program's own."""


def loaded(load: Callable[[], Result], hub: Hub) -> Result | None:
    """What `load` gives; None when it fails, and then the hub was told why."""
    try:
        return load()
    except StartError as error:
        failure = error
    except Exception as error:
        log.exception("the model could not be made ready")
        failure = StartError(f"the model could not be made ready: {error}; the log has the details")
    hub.ready(None, failure)
    return None


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be tuned."""

    silence: SilenceRules = SilenceRules()
    pace: PaceRules = PaceRules()
    reading: ReadingRules = ReadingRules()
    frame_limit: Callable[[str], int] = frame_limit


@dataclass(slots=True, eq=False)
class _InFlight:
    """A frame that was launched, and for whom."""

    pending: Pending
    of: list[tuple[_Speaking, int]]  # with the epoch it was launched in
    prompts: int | None  # read just before it; None: something else was, of unknown cost


@dataclass(slots=True, eq=False)
class _Speaking:
    """One request in a slot."""

    listener: Listener
    asked: Asked
    slot: int
    gate: SilenceGate[bytes]
    pace: Pace
    samples_left: int | None
    version: int  # of its conversation, as its slot holds it or it was last read
    part: int = 0
    epoch: int = 0  # frames under way for an earlier part are not this one's
    is_reading: bool = True  # waits for the model to read its text
    limit: int = 0
    launched: int = 0
    made: int = 0
    ended_itself: bool = False  # the part before this one
    codes: list[Codes] = field(default_factory=list)
    said: list[tuple[Turn, int]] = field(default_factory=list)
    gathered: list[bytes] = field(default_factory=list)
    given_ms: float = 0.0

    @property
    def text(self) -> str:
        return self.asked.parts[self.part]


@dataclass(slots=True, eq=False)
class _Hearing:
    """A turn of somebody else, to be encoded in one gap between frames, and read in another."""

    turn: HeardTurn
    noted: Callable[[bool | SpeechError], None]
    encoded: tuple[Turn, int] | None = None  # with the positions it takes


class Worker:
    """Runs `open_stage()` and then the frames, in a thread of its own.

    `open_stage` loads, warms up, and may raise StartError.
    """

    def __init__(
        self,
        open_stage: Callable[[], Stage],
        hub: Hub,
        *,
        rules: Rules | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_stage, self._hub = open_stage, hub
        self._rules, self._clock_s = rules or Rules(), clock_s
        self._wakened = threading.Condition()
        self._commands: deque[Callable[[], None]] = deque()
        self._closing = False
        self._speaking: dict[Listener, _Speaking] = {}
        self._reading: ReadingQueue[_Speaking | _Hearing] = ReadingQueue()
        self._costs = Costs()
        self._prompts_read: int | None = 0  # in the gap before the frame to come; None: a turn was heard
        self._collected_ms: float | None = None  # when the frame before was; None: none was just before
        self._in_flight: _InFlight | None = None
        self._outbox: list[Delivery] = []
        self.frames_stepped = 0
        # A daemon: loading cannot be interrupted, and must not hold back the end of the process.
        self._thread = threading.Thread(target=self._run, name="csm-model", daemon=True)

    # From any thread

    def launch(self) -> None:
        """Begin to load."""
        self._thread.start()

    def begin(self, listener: Listener, asked: Asked) -> None:
        """Speak a request. There must be a slot for it: no more begun and not ended than the stage has."""
        due_ms = self._now_ms() + self._rules.reading.new_patience_ms
        self._command(lambda: self._begin(listener, asked, due_ms))

    def stop(self, listener: Listener) -> None:
        """Speak it no further; its slot is free for whatever is begun after this."""
        self._command(lambda: self._stop(listener))

    def hear(self, turn: HeardTurn, noted: Callable[[bool | SpeechError], None]) -> None:
        """Keep a turn of somebody else as context; `noted` is called in the thread, once that is settled."""
        due_ms = self._now_ms() + self._rules.reading.heard_patience_ms
        self._command(lambda: self._reading.put(_Hearing(turn, noted), due_ms))

    def forget(self, context_id: str) -> None:
        """Free what is kept of a conversation."""
        self._command(lambda: self._forget(context_id))

    def drop_voice(self, digest: str) -> None:
        """Free what is kept of a voice."""
        self._command(lambda: self._stage.drop_voice(digest))

    def wake(self) -> None:
        """A paused listener has taken something."""
        with self._wakened:
            self._wakened.notify()

    def close(self, deadline_s: float) -> bool:
        """End the thread after the frame it is at; whether it did by the deadline. Blocks until then."""
        with self._wakened:
            self._closing = True
            self._wakened.notify()
        if self._thread.ident is not None:
            self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def _now_ms(self) -> float:
        return self._clock_s() * 1000

    def _command(self, command: Callable[[], None]) -> None:
        with self._wakened:
            self._commands.append(command)
            self._wakened.notify()

    # In the thread

    def _run(self) -> None:
        stage = loaded(self._open_stage, self._hub)
        if stage is None:
            return
        self._stage = stage
        self._slots = SlotBook(self._stage.slots)
        # Half of the positions: what a slot reads of the past at most (Stage.read).
        self._conversations: Conversations[Turn] = Conversations(max_positions=self._stage.max_positions // 2)
        self._hub.ready(self._stage.device, None)
        try:
            while self._wait_for_work():
                self._between_frames()
                self._one_frame()
                if self._outbox:
                    self._hub.post(self._outbox)
                    self._outbox = []
        except Exception:
            log.exception("the model's thread has failed: no request can be spoken any more")
            self._hub.died()

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to do; False: the thread is to end."""
        if not self._has_work():  # marks who is paused, before …
            self._collected_ms = None
            with self._wakened:
                # … looking again under the lock: who takes from now on sees the mark, and wakes.
                while not (self._closing or self._has_work()):
                    self._wakened.wait()
        return not self._closing

    def _has_work(self) -> bool:
        return bool(self._commands or self._reading or self._in_flight or self._can_step())

    def _between_frames(self) -> None:
        """Obey, and read: one prompt, and more while every listener's lead allows it."""
        self._obey()
        gap = Gap(self._rules.reading, self._costs, self._leads_ms(), self._now_ms())
        self._prompts_read = 0
        while self._reading and gap.allows_prompt(began_ms := self._now_ms()):
            following = self._reading.first()
            if isinstance(following, _Hearing):
                if not gap.prompts:  # it has a gap of its own
                    self._hear(following)
                    self._prompts_read = None
                return
            self._reading.remove(following)
            self._guarded([following], partial(self._read, following))
            self._costs.learn_read(self._now_ms() - began_ms)
            gap.prompts += 1
            self._prompts_read = gap.prompts
            self._obey()  # a stop frees its slot after a prompt at most, and who is due sooner goes first

    def _obey(self) -> None:
        while self._commands:
            self._commands.popleft()()

    def _leads_ms(self) -> list[float]:
        """Of all who are spoken to and listen: who takes nothing has enough, whatever the clock says."""
        now_ms = self._now_ms()
        paces = [speaking.pace for speaking in self._speaking.values()]
        leads_ms = [pace.lead_ms(now_ms) for pace in paces if pace.has_begun and not pace.paused]
        under_way = self._in_flight.of if self._in_flight else []
        if any(not speaking.pace.has_begun for speaking, _ in under_way):
            leads_ms.append(FRAME_MS)  # a first frame is at hand: then it is what its listener has
        return leads_ms

    def _one_frame(self) -> None:
        """Launch a frame, and collect it; on a GPU the one before, while it makes this one."""
        able = self._can_step()
        launched: _InFlight | None = None
        if able:
            slots = [speaking.slot for speaking in able]
            pending = self._guarded(able, partial(self._stage.step, slots))
            if pending is not None:
                of = [(speaking, speaking.epoch) for speaking in able]
                launched = _InFlight(pending, of, self._prompts_read)
                self.frames_stepped += 1
                for speaking in able:
                    speaking.launched += 1
        if self._stage.lag:
            launched, self._in_flight = self._in_flight, launched
        if launched is None:
            self._collected_ms = None
        else:
            self._collect(launched)

    def _can_step(self) -> list[_Speaking]:
        """Whoever the next frame is for; who is far ahead lets those go first who wait."""
        now_ms = self._now_ms()
        able: list[_Speaking] = []
        ahead: list[_Speaking] = []
        others_wait = self._costs.is_slow or any(map(self._waits_for_sound, self._speaking.values()))
        for speaking in self._speaking.values():
            untaken_ms = speaking.given_ms - speaking.listener.taken_ms
            speaking.listener.paused = speaking.pace.must_wait(untaken_ms)
            is_ahead = speaking.pace.is_ahead(now_ms)
            if not (speaking.listener.paused or speaking.is_reading) and speaking.launched < speaking.limit:
                (ahead if others_wait and is_ahead else able).append(speaking)
        return able or ahead

    @staticmethod
    def _waits_for_sound(speaking: _Speaking) -> bool:
        return speaking.is_reading or not speaking.pace.has_begun

    def _collect(self, flight: _InFlight) -> None:
        of = [speaking for speaking, epoch in flight.of if self._is_current(speaking, epoch)]
        frames = self._guarded(of, partial(self._stage.collect, flight.pending))
        now_ms = self._now_ms()
        if self._collected_ms is not None and flight.prompts is not None:
            self._costs.learn_frame(now_ms - self._collected_ms, flight.prompts, len(flight.of))
        self._collected_ms = now_ms
        for (speaking, epoch), frame in zip(flight.of, frames or [], strict=False):
            if self._is_current(speaking, epoch):
                self._guarded([speaking], partial(self._take, speaking, frame))

    def _is_current(self, speaking: _Speaking, epoch: int) -> bool:
        return self._speaking.get(speaking.listener) is speaking and speaking.epoch == epoch

    # One request

    def _begin(self, listener: Listener, asked: Asked, due_ms: float) -> None:
        slot, is_held = self._slots.take(self._key(asked))
        _, version = self._turns(asked)
        speaking = _Speaking(
            listener=listener,
            asked=asked,
            slot=slot,
            gate=SilenceGate(self._rules.silence),
            pace=Pace(self._rules.pace, speed=asked.speed),
            samples_left=asked.max_samples,
            version=version,
            ended_itself=is_held,
        )
        self._speaking[listener] = speaking
        self._reading.put(speaking, due_ms)
        for hearing in self._heard_of(asked.context_id):  # it came before, and is context
            self._reading.hasten(hearing, due_ms)

    def _stop(self, listener: Listener) -> None:
        speaking = self._speaking.get(listener)
        if speaking is not None:
            self._leave(speaking, key=None)

    def _leave(self, speaking: _Speaking, *, key: tuple[object, ...] | None) -> None:
        del self._speaking[speaking.listener]
        self._reading.remove(speaking)
        self._give_back(speaking.slot, key)

    def _give_back(self, slot: int, key: tuple[object, ...] | None) -> None:
        if key is None:
            self._stage.release(slot)
        self._slots.give_back(slot, key)

    def _read(self, speaking: _Speaking) -> None:
        """Have the model read the part that is next: after what the slot holds, where it can."""
        asked, stage, slot = speaking.asked, self._stage, speaking.slot
        past, version = self._turns(asked)
        if speaking.part == 0:
            stage.open(slot)
            # What was heard since the slot was taken is not in it.
            speaking.ended_itself &= version == speaking.version
            speaking.version = version
        text, speaker, wanted = speaking.text, asked.speaker_id, self._rules.frame_limit(speaking.text)
        goes_on = speaking.part > 0 or speaking.ended_itself
        if not goes_on or not stage.read_on(slot, speaker, text, frames=wanted, ended=speaking.ended_itself):
            said = [turn for turn, _ in speaking.said]
            stage.read(slot, asked.voice, [*past, *said], speaker, text, frames=wanted)
            speaking.version = version
        seed = seed_of_part(asked.seed, speaking.part)
        stage.begin(slot, temperature=asked.temperature, top_k=asked.top_k, seed=seed)
        speaking.limit = min(wanted, stage.frames_left(slot))
        speaking.launched = speaking.made = 0
        speaking.is_reading = False

    def _take(self, speaking: _Speaking, frame: MadeFrame) -> None:
        if frame.is_eos:
            if speaking.launched > speaking.made + 1:
                self._stage.take_back(speaking.slot)
            self._end_part(speaking, "eos")
            return
        if not math.isfinite(frame.loudness):
            raise GenerationFailed("the model made no sound but numbers that are none; the log says no more")
        speaking.made += 1
        speaking.codes.append(frame.codes)
        self._gather(speaking, speaking.gate.push(frame.pcm16, frame.loudness))
        now_ms = self._now_ms()
        if speaking.gate.held and speaking.pace.lead_ms(now_ms) < self._rules.pace.low_ms / 2:
            self._gather(speaking, speaking.gate.release())
        if speaking.samples_left == 0:
            self._finish(speaking, "max_length")
        elif speaking.gate.is_over:
            self._end_part(speaking, "silence")
        elif speaking.made >= speaking.limit:
            self._end_part(speaking, "max_length")
        elif speaking.pace.is_due(len(speaking.gathered), now_ms):
            self._hand_over(speaking, None)

    def _gather(self, speaking: _Speaking, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            if speaking.samples_left is not None:
                piece = piece[: speaking.samples_left * SAMPLE_BYTES]
                speaking.samples_left -= samples_in(piece)
            if piece:
                speaking.gathered.append(piece)

    def _end_part(self, speaking: _Speaking, reason: EndReason) -> None:
        is_last = speaking.part + 1 == len(speaking.asked.parts)
        if reason == "silence":
            speaking.gate.drop()
        self._gather(speaking, speaking.gate.release() if is_last else speaking.gate.join())
        self._remember(speaking, reason)
        if is_last or speaking.samples_left == 0:
            self._finish(speaking, "max_length" if speaking.samples_left == 0 else reason)
            return
        speaking.ended_itself = reason == "eos"
        speaking.part += 1
        speaking.epoch += 1
        speaking.is_reading = True
        self._hand_over(speaking, None)
        now_ms = self._now_ms()
        self._reading.put(speaking, now_ms + speaking.pace.lead_ms(now_ms))

    def _remember(self, speaking: _Speaking, reason: EndReason) -> None:
        """The part as context for what follows; cut short, its words and its sound would not agree."""
        codes, speaking.codes = speaking.codes, []
        if reason == "silence":
            codes = codes[: -self._rules.silence.ends_speech + self._rules.silence.sent_at_once]
        if codes and reason != "max_length" and speaking.gate.has_heard_speech:
            speaking.said.append(self._stage.said(speaking.asked.speaker_id, speaking.text, codes))

    def _finish(self, speaking: _Speaking, end: End) -> None:
        key: tuple[object, ...] | None = None
        context_id = speaking.asked.context_id
        if context_id is not None and not isinstance(end, SpeechError):
            is_current = self._turns(speaking.asked)[1] == speaking.version
            for turn, positions in speaking.said:
                self._conversations.add(context_id, turn, positions, self._clock_s())
            # Only after an end of its own does the slot hold just what the next turn is to follow.
            if is_current and end == "eos" and len(speaking.said) == len(speaking.asked.parts):
                key = self._key(speaking.asked)
        self._leave(speaking, key=key)
        self._hand_over(speaking, end)

    def _key(self, asked: Asked) -> tuple[object, ...] | None:
        """What a slot must hold to go on with this conversation in this voice."""
        if asked.context_id is None:
            return None
        _, version = self._turns(asked)
        voice = asked.voice.digest if asked.voice else asked.speaker_id
        return (asked.context_id, version, voice) if version else None

    def _turns(self, asked: Asked) -> tuple[tuple[Turn, ...], int]:
        if asked.context_id is None:
            return (), 0
        return self._conversations.turns(asked.context_id, self._clock_s())

    # What is heard

    def _hear(self, hearing: _Hearing) -> None:
        answer: bool | SpeechError = True
        try:
            if hearing.encoded is None:
                hearing.encoded = self._encode(hearing.turn)
                return  # it keeps its place
            self._keep(hearing.turn.context_id, *hearing.encoded)
        except SpeechError as error:
            answer = error
        except Exception:  # whatever the model raises must become an answer on the wire
            log.exception("a turn of conversation %s could not be heard", hearing.turn.context_id)
            answer = GenerationFailed("the model failed on this turn; the server's log has the reason")
        self._reading.remove(hearing)
        hearing.noted(answer)

    def _encode(self, heard: HeardTurn) -> tuple[Turn, int]:
        turn, positions = self._stage.heard(heard.speaker_id, heard.text, heard.samples)
        if positions > self._conversations.max_positions:
            raise BadRequest(
                f"the turn takes {positions} of the model's positions, and no more than "
                f"{self._conversations.max_positions} are kept of a conversation: send less of it",
                field="heard",
            )
        return turn, positions

    def _keep(self, context_id: str, turn: Turn, positions: int) -> None:
        """Where a slot holds the conversation, it reads the turn now, and need not when it speaks."""
        _, before = self._conversations.turns(context_id, self._clock_s())
        after = self._conversations.add(context_id, turn, positions, self._clock_s())
        for held in self._slots.held():
            if isinstance(held, tuple) and held[:2] == (context_id, before):
                slot, _ = self._slots.take(held)
                key: tuple[object, ...] | None = None
                try:
                    if self._stage.listen(slot, turn):
                        key = (context_id, after, *held[2:])
                finally:
                    self._give_back(slot, key)
                return

    def _forget(self, context_id: str) -> None:
        """Also what was heard in it and not read yet, which would bring it back."""
        self._conversations.forget(context_id)
        for hearing in self._heard_of(context_id):
            self._reading.remove(hearing)
            hearing.noted(False)

    def _heard_of(self, context_id: str | None) -> list[_Hearing]:
        """What was heard in a conversation and is not kept yet."""
        waiting = [each for each in self._reading if isinstance(each, _Hearing)]
        return [each for each in waiting if each.turn.context_id == context_id]

    def _hand_over(self, speaking: _Speaking, end: End | None) -> None:
        pcm16 = b"".join(speaking.gathered)
        if speaking.gathered:
            speaking.pace.handed_over(len(speaking.gathered), self._now_ms())
        speaking.gathered.clear()
        speaking.given_ms += ms_of(samples_in(pcm16))
        if pcm16 or end is not None:
            self._outbox.append(Delivery(speaking.listener, pcm16, end))

    def _guarded(self, of: Sequence[_Speaking], work: Callable[[], Result]) -> Result | None:
        """Do it, or fail those it was done for, whatever it raised; the others go on."""
        try:
            return work()
        except SpeechError as error:
            failure = error
        except Exception:  # whatever the model raises must become an answer on the wire
            log.exception("the model failed for %s", ", ".join(each.asked.request_id for each in of))
            failure = GenerationFailed("the model failed on this request; the server's log has the reason")
        for speaking in of:
            if self._speaking.get(speaking.listener) is speaking:
                speaking.gathered.clear()
                self._finish(speaking, failure)
        return None
