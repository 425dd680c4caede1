"""One call's voice: each piece is spoken by the first route that can, and finished by the next when it fails.

Asks, waits, accounts for what was said; how long to wait, what counts as speech and which words some sound
says is decided in `backend.core`. Knows nothing of vendors, nor of the line its sound goes to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from backend.calls.boards.route_board import RouteBoard, Where
from backend.calls.ports import Clock, PreparedVoice, RoutePlan, SpeechRoute, Transcriber
from backend.calls.speaking.request import Request
from backend.core import cut_short
from backend.core.failover import (
    Patience,
    Watch,
    counts_against_route,
    may_go_well_anew,
    may_mend_itself,
)
from backend.core.g711 import Codec
from backend.core.health import RouteKey
from backend.core.said import (
    MS_PER_CHARACTER,
    ending,
    said_by_duration,
    said_by_ear,
    said_by_marks,
    spoken_weight,
)
from backend.core.speech import Piece, Sound
from backend.errors import HearingError, SpeechError

log = logging.getLogger(__name__)

PREPARED = "prepared"
"""Route name of what was synthesised beforehand."""
_SOUR_MS = 8_000.0  # a route that failed this call is not asked again for so long, while there is another
_LOOK_AGAIN_MS = 250.0  # how often routes that failed are tried while the sound already made lasts
_EAR_MS = 6_000.0  # of the end of what was said
_LEAST_EAR_MS, _MOST_EAR_MS = 200.0, 1_000.0
_EAR_MARGIN_MS = 150.0
_FEW_WORDS = 3.0
_BEFORE_CHARACTERS = 300
_DISCARD_S = 2.0
_ENDLESS, _ENDLESS_MS = 5.0, 10_000.0  # times what a text should take, and more: a model that babbles on


class Outlet(Protocol):
    """Where the sound goes. See `backend.calls.speaking.speaker`."""

    def begin(self, text: str, route: str, reason: str | None) -> None:
        """What is put from now on says `text`. `reason`: why the route before it was left."""

    async def put(self, g711: bytes) -> None:
        """Sound. Waits while there is far too much of it."""

    def amend(self, text: str) -> None:
        """What was put since `begin` says this only."""

    def take_back(self, ms: float) -> float:
        """Forget so much of the sound put last; how much of it had not been sent, and is forgotten."""

    def end(self) -> None:
        """All sound since `begin` was put."""

    def lead_ms(self) -> float:
        """Sound put and not yet played."""

    async def elsewhere(self, text: str, reason: str | None, speak: Callable[[], Awaitable[None]]) -> None:
        """Have the text said without us, once all that was put is played; returns when it is said."""


@dataclass(frozen=True, slots=True)
class _Broken:
    """A route failed after so many words."""

    key: RouteKey
    said: int
    error: SpeechError
    words_left: int

    @property
    def where(self) -> Where:
        """At the begin of the piece, or in its middle."""
        return "middle" if self.said else "begin"


class Voice:
    """Speaks one piece at a time. Make one a call; `aclose` it afterwards."""

    def __init__(
        self,
        plans: Sequence[RoutePlan],
        *,
        board: RouteBoard,
        clock: Clock,
        codec: Codec = Codec.PCMU,
        patience: Patience | None = None,
        ears: Transcriber | None = None,
        prepared: PreparedVoice | None = None,
        last_resort: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """`plans`: best first. `ears`: to find the word at which a voice broke off. `last_resort`: has the
        carrier say a text in its own voice, and returns when it is said."""
        self._plans, self._board, self._clock, self._codec = tuple(plans), board, clock, codec
        self._patience = patience or Patience()
        self._ears, self._prepared, self._last_resort = ears, prepared, last_resort
        self._routes: dict[RouteKey, SpeechRoute] = {}
        self._sour_until_ms: dict[RouteKey, float] = {}
        self._warming: set[asyncio.Task[None]] = set()
        self._discarding: set[asyncio.Task[None]] = set()  # each bounded in time
        self._closed = False
        self._has_spoken = False

    @property
    def first_route(self) -> str:
        """The name of the route that is to speak next."""
        plan = self._choose(set())
        return plan.key.name if plan is not None else "telnyx" if self._last_resort is not None else "none"

    async def connect(self) -> None:
        """Connect the first route that can be, and the one after it as a standby.

        Raises SpeechError when there is none.
        """
        problems: list[SpeechError] = []
        tried: set[RouteKey] = set()
        while (plan := self._choose(tried)) is not None:
            tried.add(plan.key)
            try:
                await self._connect(plan)
            except SpeechError as error:
                problems.append(error)
                continue
            self._warm_standby(tried)
            return
        if self._last_resort is None:
            raise _no_voice(problems)

    async def say(self, piece: Piece, out: Outlet, *, before: str = "") -> None:
        """Speak a piece to its end, by as many routes as it takes. `before`: what was said just before.

        What a voice that has spoken before cannot say, as a text in a script it does not know, is left out.
        Raises SpeechError when no route is left; what was said until then is in `out`'s account.
        """
        reason: str | None = None
        tried: set[RouteKey] = set()
        problems: list[SpeechError] = []
        anew: RoutePlan | None = None
        asked_anew = False
        broken: _Broken | None = None
        while piece.spoken:
            if (recording := self._recorded(piece)) is not None:
                out.begin(piece.text, PREPARED, reason)
                await out.put(recording)
                out.end()
                self._has_spoken = True
                return
            plan = anew or self._choose(tried) or await self._well_again(problems, out)
            self._count(broken, plan)
            if plan is None:
                await self._resort(piece, out, reason, problems)
                return
            level = logging.WARNING if self._is_well(plan) else logging.DEBUG  # known to fail, it was told
            broken = await self._attempt(plan, piece, out, before[-_BEFORE_CHARACTERS:], reason, tried)
            if broken is None:
                self._has_spoken = True
                return
            problems.append(broken.error)
            reason = broken.error.reason
            anew = None
            if plan.asked_anew and not asked_anew and may_go_well_anew(broken.error.reason):
                anew, asked_anew = plan, True
                self._let_go(plan)
            before = f"{before} {piece.until(broken.said).spoken}".strip()
            piece = piece.rest(broken.said)
            log.log(level, "%s; %d words remain to be said", broken.error, len(piece.words))
            if not counts_against_route(reason):  # another server of the same kind would refuse it, too
                tried |= {other.key for other in self._plans if other.key.name == broken.error.route}

    async def aclose(self) -> None:
        """Let go of every route, within a few seconds."""
        self._closed = True
        for task in self._warming:
            task.cancel()
        if under_way := self._warming | self._discarding:
            await asyncio.wait(under_way)
        await asyncio.gather(*(route.aclose() for route in self._routes.values()))

    def _count(self, broken: _Broken | None, following: RoutePlan | None) -> None:
        """A route broke off, and this one is asked next; None: the carrier's voice, if there is that."""
        if broken is None or not counts_against_route(broken.error.reason):
            return
        if following is not None and following.key == broken.key:
            self._board.retried(broken.where, broken.words_left)
        elif following is not None or self._last_resort is not None:
            self._board.failed_over(broken.where, broken.words_left)

    # --- which route -----------------------------------------------------------------------------------

    async def _well_again(self, problems: list[SpeechError], out: Outlet) -> RoutePlan | None:
        """A route that can be connected to again before the sound already made has run out, if there is one.

        A speech server that is started anew takes seconds, and as many seconds of sound may have been made.
        """
        standing = {problem.route for problem in problems if not may_mend_itself(problem.reason)}
        worth_a_look = [plan for plan in self._plans if plan.key.name not in standing]
        while worth_a_look and out.lead_ms() > self._patience.switch_ms + _LOOK_AGAIN_MS:
            await asyncio.sleep(_LOOK_AGAIN_MS / 1000)
            for plan in worth_a_look:
                self._let_go(plan)
                try:
                    async with asyncio.timeout(max(0.0, out.lead_ms() - self._patience.switch_ms) / 1000):
                        await self._connect(plan)
                except (SpeechError, TimeoutError) as error:
                    log.debug("not yet: %s", error)
                else:
                    return plan
        return None

    def _let_go(self, plan: RoutePlan) -> None:
        """Have the route connect anew when it is asked next."""
        if (route := self._routes.pop(plan.key, None)) is not None:
            _spawn(_closed(route), self._discarding)

    def _choose(self, tried: set[RouteKey]) -> RoutePlan | None:
        """The best route not tried yet; one that is known to fail only where nothing else is left."""
        left = [plan for plan in self._plans if plan.key not in tried]
        now_ms = self._clock()
        healthy = [plan for plan in left if self._is_well(plan)]
        sweet = [plan for plan in healthy if self._sour_until_ms.get(plan.key, now_ms) <= now_ms]
        if sweet or healthy:
            return (sweet or healthy)[0]
        return left[0] if left and self._last_resort is None else None

    def _is_well(self, plan: RoutePlan) -> bool:
        return self._board.allows(plan.key, plan.voice_id)

    def _route(self, plan: RoutePlan) -> SpeechRoute:
        if plan.key not in self._routes:
            self._routes[plan.key] = plan.make()
        return self._routes[plan.key]

    def _fail(self, plan: RoutePlan, error: SpeechError) -> None:
        self._board.failed(plan.key, error, voice=plan.voice_id)
        if counts_against_route(error.reason):
            self._sour_until_ms[plan.key] = self._clock() + _SOUR_MS

    def _succeeded(self, plan: RoutePlan, watch: Watch) -> None:
        self._board.succeeded(plan.key, first_audio_ms=watch.first_audio_ms or 0.0, voice=plan.voice_id)
        self._sour_until_ms.pop(plan.key, None)

    def _warm_standby(self, tried: set[RouteKey]) -> None:
        """Connect the next route in the background: when it is needed, there is no time for that."""
        plan = self._choose(tried)
        if plan is not None and self._is_well(plan) and not self._closed:
            _spawn(self._warm(plan), self._warming)

    async def _warm(self, plan: RoutePlan) -> None:
        try:
            await self._connect(plan)
        except SpeechError as error:
            log.info("standby: %s", error)

    async def _connect(self, plan: RoutePlan) -> None:
        """Raises SpeechError, and the board knows of it. On trial, no other call connects meanwhile."""
        self._board.began(plan.key, plan.voice_id)
        try:
            await self._route(plan).connect()
        except SpeechError as error:
            self._fail(plan, error)
            raise
        finally:
            self._board.connected(plan.key, plan.voice_id)

    # --- one attempt -----------------------------------------------------------------------------------

    async def _attempt(
        self,
        plan: RoutePlan,
        piece: Piece,
        out: Outlet,
        before: str,
        reason: str | None,
        tried: set[RouteKey],
    ) -> _Broken | None:
        """Have a route speak the piece; how it broke off, if it did. `tried` gets every route asked."""
        watch = Watch(self._patience, self._clock(), out.lead_ms())
        try:
            request, sound = await self._first_to_speak(plan, piece, before, watch, tried)
        except SpeechError as error:
            return _Broken(plan.key, 0, error, len(piece.words))
        out.begin(piece.text, request.plan.key.name, reason)
        try:
            await self._stream(request, sound, watch, out)
            speech_ms = ending(request.pcm16_8k).speech_ms()
            await self._see_that_all_was_said(request, piece, speech_ms, out)
        except SpeechError as error:
            self._fail(request.plan, error)
            self._discard(request)
            self._warm_standby(tried)
            await out.put(request.flush())
            said = await self._account(request, piece, out)
            out.amend(piece.until(said).text)
            out.end()
            return _Broken(request.plan.key, said, error, len(piece.words) - said)
        except asyncio.CancelledError:
            self._succeeded(request.plan, watch)
            self._discard(request)
            raise
        out.end()
        self._finished(request, piece, watch, speech_ms)
        return None

    async def _stream(self, request: Request, sound: Sound | None, watch: Watch, out: Outlet) -> None:
        while sound is not None:
            lead_ms = out.lead_ms()  # when it came
            await out.put(request.take(sound))
            if request.is_endless:
                raise request.error(
                    "protocol", f"it speaks on and on: {request.sound_ms / 1000:.0f} s by now"
                )
            if watch.is_too_slow(lead_ms):
                raise request.error("slow", "it makes sound slower than it plays")
            asked_ms = self._clock()
            patience_ms = watch.give_up_ms(asked_ms, out.lead_ms()) - asked_ms
            sound = await request.next(patience_ms)
            if sound is not None:
                watch.got(sound.duration_ms, asked_ms=asked_ms, now_ms=self._clock())
        await out.put(request.flush())

    async def _see_that_all_was_said(
        self, request: Request, piece: Piece, speech_ms: float, out: Outlet
    ) -> None:
        """Raises SpeechError when a route is done long before its text can have been said."""
        plan = request.plan
        learnt = self._learnt_ms_per_character(plan)
        verdict = cut_short.verdict(piece, speech_ms, ms_per_character=learnt, speed=plan.speed)
        if verdict == "whole":
            return
        if request.marks:
            found, _ = said_by_marks(piece, request.marks, request.sound_ms)
            is_cut = cut_short.is_missing_words(piece, found)
        elif verdict == "doubtful":
            expected = said_by_duration(piece, speech_ms, self._ms_per_character(plan))
            heard = await self._listen(request, piece, request.sound_ms, expected, out)
            is_cut = cut_short.is_missing_words(piece, heard)
        else:
            is_cut = True
        if is_cut:
            told = f"it says it is done after {speech_ms:.0f} ms of {len(piece.words)} words"
            raise request.error("generation_failed", told)

    async def _first_to_speak(
        self, plan: RoutePlan, piece: Piece, before: str, watch: Watch, tried: set[RouteKey]
    ) -> tuple[Request, Sound]:
        """Ask one route, and a second where hedging is on and the first is late; whichever speaks first.

        Raises the SpeechError of the last that failed.
        """
        tried.add(plan.key)
        asked = [self._ask(plan, piece, before)]
        hedge_ms = watch.hedge_ms()
        try:
            while True:
                now_ms = self._clock()
                give_up_ms = watch.give_up_ms(now_ms, 0.0)
                until_ms = give_up_ms if hedge_ms is None else min(hedge_ms, give_up_ms)
                await asyncio.wait(
                    [each.pending for each in asked],
                    timeout=max(0.0, until_ms - now_ms) / 1000,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                now_ms = self._clock()
                for each in [each for each in asked if each.pending.done() or now_ms >= give_up_ms]:
                    try:
                        sound = await each.first()
                    except SpeechError as error:
                        self._fail(each.plan, error)
                        self._discard(each)
                        asked.remove(each)
                        if not asked:
                            raise
                        continue
                    watch.got(sound.duration_ms, asked_ms=now_ms, now_ms=now_ms)
                    asked.remove(each)
                    return each, sound
                if hedge_ms is not None and now_ms >= hedge_ms:
                    hedge_ms = None
                    if (other := self._choose(tried)) is not None:
                        tried.add(other.key)
                        asked.append(self._ask(other, piece, before))
        finally:
            for each in asked:  # slower than another, or nobody wants it any more
                tried.discard(each.plan.key)  # it has not failed: it may finish what the faster one begins
                self._board.gave_up(each.plan.key, each.plan.voice_id)
                self._discard(each)

    def _ask(self, plan: RoutePlan, piece: Piece, before: str) -> Request:
        self._board.began(plan.key, plan.voice_id)
        sounds = self._route(plan).speak(piece.spoken, before=before)
        longest_ms = _ENDLESS * self._lasts_ms(plan, piece) + _ENDLESS_MS
        return Request(plan, sounds, self._codec, longest_ms=longest_ms)

    def _lasts_ms(self, plan: RoutePlan, piece: Piece) -> float:
        return spoken_weight(piece) * self._ms_per_character(plan)

    def _ms_per_character(self, plan: RoutePlan) -> float:
        """As learnt of this voice, or as voices take in general."""
        return self._learnt_ms_per_character(plan) or MS_PER_CHARACTER / plan.speed

    def _learnt_ms_per_character(self, plan: RoutePlan) -> float | None:
        rate = self._board.rate_ms_per_char(plan.key, plan.voice_id)
        return rate and rate / plan.speed

    def _discard(self, request: Request) -> None:
        """Cancel it without waiting: a server that fell silent may not answer to that either."""
        _spawn(request.discard(_DISCARD_S), self._discarding)

    def _finished(self, request: Request, piece: Piece, watch: Watch, speech_ms: float) -> None:
        plan = request.plan
        self._succeeded(plan, watch)
        if self._prepared is not None:
            self._prepared.note(piece)
        weight = round(spoken_weight(piece))
        self._board.learn(plan.key, plan.voice_id, characters=weight, ms=speech_ms * plan.speed)

    # --- what was said ---------------------------------------------------------------------------------

    async def _account(self, request: Request, piece: Piece, out: Outlet) -> int:
        """How many words the caller will have heard whole. Half a word not yet sent is taken back."""
        if request.is_endless:  # all was said long ago
            out.take_back(request.sound_ms - 2 * self._lasts_ms(request.plan, piece))
            return len(piece.words)
        end = ending(request.pcm16_8k[: round(request.speech_ms * 8) * 2])
        if not end.voiced_ms:
            out.take_back(request.sound_ms - request.speech_ms)
            return 0
        if request.marks:
            said, border_ms = said_by_marks(piece, request.marks, request.speech_ms)
            out.take_back(request.sound_ms - border_ms)
            return said
        kept_ms = request.sound_ms - out.take_back(request.sound_ms - end.border_ms)
        kept_ms = min(kept_ms, request.speech_ms)
        rate = self._ms_per_character(request.plan)
        expected = said_by_duration(piece, end.speech_ms(kept_ms), rate)
        by_ear = await self._listen(request, piece, kept_ms, expected, out)
        if by_ear is not None:
            return by_ear
        # A word cut in two is said again; one whose end was only just reached is not.
        return int(expected + 0.25)

    async def _listen(
        self, request: Request, piece: Piece, kept_ms: float, expected: float, out: Outlet
    ) -> int | None:
        if self._ears is None:
            return None
        kept = request.pcm16_8k[: round(kept_ms * 8) * 2]
        tail = kept[-round(_EAR_MS * 8) * 2 :]
        free_ms = out.lead_ms() - self._patience.switch_ms - _EAR_MARGIN_MS
        if free_ms < _LEAST_EAR_MS and expected < _FEW_WORDS:
            return None  # so early the clock is as good, and the line is running dry
        patience_ms = min(max(_LEAST_EAR_MS, free_ms), _MOST_EAR_MS)
        try:
            async with asyncio.timeout(patience_ms / 1000):
                recognised = await self._ears.transcribe(tail)
        except (TimeoutError, HearingError) as error:
            log.info("which words were said is reckoned from their length: %r", error)
            return None
        whole = len(tail) == len(kept)
        # Milliseconds for a long piece: not on the event loop, where other calls have frames to send.
        return await asyncio.to_thread(said_by_ear, piece, recognised, expected, from_start=whole)

    # --- without a route -------------------------------------------------------------------------------

    def _recorded(self, piece: Piece) -> bytes | None:
        return self._prepared.lookup(piece) if self._prepared is not None else None

    async def _resort(
        self, piece: Piece, out: Outlet, reason: str | None, problems: list[SpeechError]
    ) -> None:
        if self._last_resort is None:
            if self._has_spoken and not all(counts_against_route(problem.reason) for problem in problems):
                log.warning("%r is left out: no voice can say it", piece.text)
                return
            raise _no_voice(problems)
        last_resort, text = self._last_resort, piece.spoken
        await out.elsewhere(piece.text, reason, lambda: last_resort(text))


def _spawn(work: Coroutine[Any, Any, None], into: set[asyncio.Task[None]]) -> None:
    task = asyncio.create_task(work)
    into.add(task)
    task.add_done_callback(into.discard)


async def _closed(route: SpeechRoute) -> None:
    with suppress(SpeechError, TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            await route.aclose()


def _no_voice(problems: Sequence[SpeechError]) -> SpeechError:
    told = "; ".join(str(problem) for problem in problems) or "no speech route is configured for this agent"
    reason = problems[-1].reason if problems else "unreachable"
    return SpeechError(f"no voice is left: {told}", route="all", reason=reason)
