"""One call's speech-to-text: the agent's routes in order, the same audio to the next one when one fails.

Refuses to know when a turn ends (that is the listener's) and how any route reaches its vendor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from backend.calls.boards.ears_board import EarsBoard
from backend.calls.ports import CarrierTold, Clock, EarPlan, StartHearing, StreamingTranscriber
from backend.core.hearing import RATE_HZ, EarKey, asks_again, deadline_ms, overrules, tidy
from backend.core.key_terms import correct
from backend.errors import HearingError

log = logging.getLogger(__name__)

_LAST_MS = 15_000.0  # there is nobody else to ask: late is better than never
_LET_GO_S = 1.0


class Ears:
    """The routes of one call. A `StreamingTranscriber`, whatever its routes are."""

    def __init__(
        self,
        plans: Sequence[EarPlan],
        *,
        board: EarsBoard,
        clock: Clock,
        start_hearing: StartHearing,
        timeout_ms: float = 1500.0,
        key_terms: Sequence[str] = (),
    ) -> None:
        """`plans`: at least one, best first. `timeout_ms`: what each but the last may take."""
        self._plans, self._board, self._clock = tuple(plans), board, clock
        self._timeout_ms, self._key_terms = timeout_ms, tuple(key_terms)
        self._routes = {plan.key: plan.make(start_hearing) for plan in plans}
        # Looked at with every frame: found out once, since asking what a thing can do takes its time.
        self._streaming = {
            key: route for key, route in self._routes.items() if isinstance(route, StreamingTranscriber)
        }
        self._early = {plan.key for plan in plans if plan.early}
        self._fed: EarKey | None = None  # which route the turn under way is streamed to

    async def connect(self) -> None:
        """Get the first route ready, and those that must listen along. What fails is told to the board."""
        early = [plan for at, plan in enumerate(self._plans) if at == 0 or plan.early]
        await asyncio.gather(*(self._connect(plan) for plan in early))

    def hear(self, pcm16_8k: bytes, *, begins: bool) -> None:
        """Audio of the caller's turn as it comes; `begins`: it is the first of a turn."""
        if begins:
            allowed = (plan.key for plan in self._plans if self._board.allows(plan.key))
            self._fed = next(allowed, self._plans[0].key)
        for key, route in self._streaming.items():
            if key == self._fed or key in self._early:
                route.hear(pcm16_8k, begins=begins)

    def told(self, text: str, *, final: bool, at: str = "") -> None:
        """The carrier has heard the caller say something."""
        for route in self._routes.values():
            if isinstance(route, CarrierTold):
                route.told(text, final=final, at=at)

    async def transcribe(self, pcm16_8k: bytes) -> str:
        """Words of one utterance by the first route that answers in time; "" for none.

        Raises HearingError when no route did.
        """
        audio_ms = len(pcm16_8k) / 2 * 1000 / RATE_HZ
        silent: list[EarPlan] = []
        failure: HearingError | None = None
        plans = [plan for plan in self._plans if self._board.allows(plan.key)]
        well = len(plans)
        # The others as a last resort: an utterance is worth a try.
        plans += [plan for plan in self._plans if plan not in plans]
        for at, plan in enumerate(plans):
            is_last = at == (well or len(plans)) - 1
            within_ms = _LAST_MS if is_last else deadline_ms(self._timeout_ms, audio_ms)
            try:
                text = await self._ask(plan, pcm16_8k, within_ms)
            except HearingError as error:
                failure = error
                log.info("speech-to-text by %s failed (%s): %s", plan.key, error.reason, error)
                continue
            if not text and at < well - 1 and asks_again(audio_ms):
                silent.append(plan)  # a second opinion: it would be an utterance lost
                continue
            if silent and not overrules(text):
                return ""
            for deaf in silent:
                what = f"no words in {audio_ms / 1000:.1f} s of speech that {plan.key.name} understood"
                self._board.failed(deaf.key, HearingError(what, route=deaf.key.name, reason="no_words"))
            if at > 0:
                self._board.failed_over()
            return correct(text, self._key_terms) if self._key_terms else text
        if silent:
            return ""
        assert failure is not None
        raise failure

    async def aclose(self) -> None:
        """Let go of the routes that are this call's own, within a second."""
        closing = [
            asyncio.create_task(route.aclose(), name="close ears") for route in self._streaming.values()
        ]
        if closing:
            done, late = await asyncio.wait(closing, timeout=_LET_GO_S)
            for task in late:
                task.cancel()
            for task in done:
                if (error := task.exception()) is not None:
                    log.error("speech-to-text not closed", exc_info=error)

    async def _ask(self, plan: EarPlan, pcm16_8k: bytes, within_ms: float) -> str:
        """Raises HearingError; whatever happens is told to the board."""
        self._board.began(plan.key)
        asked_ms = self._clock()
        try:
            async with asyncio.timeout(within_ms / 1000):
                text = tidy(await self._routes[plan.key].transcribe(pcm16_8k))
        except TimeoutError as error:
            what = f"no words within {within_ms / 1000:g} s"
            late = HearingError(f"{plan.key}: {what}", route=plan.key.name, reason="timeout")
            self._board.failed(plan.key, late)
            raise late from error
        except asyncio.CancelledError:
            self._board.gave_up(plan.key)
            raise
        except HearingError as error:
            self._board.failed(plan.key, error)
            raise
        except Exception as error:
            raise self._broken(plan, error) from error
        self._board.succeeded(plan.key, took_ms=self._clock() - asked_ms)
        return text

    async def _connect(self, plan: EarPlan) -> None:
        route = self._streaming.get(plan.key)
        if route is None or not self._board.allows(plan.key):
            return
        try:
            await route.connect()
        except HearingError as error:
            log.info("speech-to-text by %s is not ready (%s): %s", plan.key, error.reason, error)
            self._board.failed(plan.key, error)
        except Exception as error:
            self._broken(plan, error)

    def _broken(self, plan: EarPlan, error: Exception) -> HearingError:
        """A bug of ours, or of a vendor's library: it costs the route, and not the caller the call."""
        log.error("speech-to-text by %s: internal error", plan.key, exc_info=error)
        broken = HearingError(
            f"{plan.key}: internal error, {type(error).__name__}", route=plan.key.name, reason="protocol"
        )
        self._board.failed(plan.key, broken)
        return broken
