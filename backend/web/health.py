"""`GET /api/v1/health`: what works and what does not, with what to do. Always 200: the answer is the answer.

Asks each part with a deadline, and not more often than every few seconds, whoever asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Generic, Literal, TypeVar

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, Field

from backend.core.breaker import BreakerState
from backend.core.health import RouteHealth
from backend.core.llm_health import LlmHealth
from backend.core.urls import plain_url
from backend.errors import BackendError
from backend.web.auth import Guard
from backend.web.ports import Checkable, LiveCount, Pingable, SpeechState

T = TypeVar("T")
Overall = Literal["ok", "degraded", "down"]
State = Literal["up", "down", "unknown", "not_set"]

CHECK_TIMEOUT_S = 5.0
SPEECH_KEPT_S = 1.0
TELNYX_KEPT_S = 30.0


class PartView(BaseModel):
    """One part the backend needs."""

    state: State
    detail: str = Field(description="A sentence; when it is not up, what to do.")
    latency_ms: float | None = None


class RouteView(PartView):
    """One speech route at one server."""

    name: str
    server: Annotated[str | None, AfterValidator(lambda url: url and plain_url(url))] = None
    breaker: BreakerState | None = Field(
        None, description="`open`: left alone for now; `half_open`: the next request tries it."
    )
    first_audio_ms: float | None = Field(None, description="From asking to the first sound, lately.")
    streams_free: int | None = None
    streams_capacity: int | None = None


class LlmView(PartView):
    """One language model at one server."""

    model: str
    server: Annotated[str, AfterValidator(plain_url)]
    key: str | None = Field(
        None, description="The setting or secret that holds the key it is asked with, if any."
    )
    breaker: BreakerState | None = Field(
        None, description="`open`: left alone for now; `half_open`: the next turn tries it."
    )
    first_word_ms: float | None = Field(None, description="From asking to the first word, lately.")


class HealthView(BaseModel):
    """What works. Without the API key only `status` is told."""

    status: Overall = Field(
        description="`ok`; `degraded`: calls work, not everything does; `down`: they do not."
    )
    version: str | None = None
    live_calls: int | None = None
    database: PartView | None = None
    telnyx: PartView | None = None
    speech: list[RouteView] | None = None
    problems: list[str] | None = Field(
        None, description="What is wrong besides: agents' files and folder, background work. A sentence each."
    )
    voices: dict[str, str] | None = Field(
        None, description="By agent: its voices in the order in which they are asked."
    )
    hearing: list[RouteView] | None = Field(
        None, description="Speech-to-text; `latency_ms`: from asking to the words, lately."
    )
    language_models: list[LlmView] | None = None


class Kept(Generic[T]):
    """An answer that is asked for again only once it is `kept_s` seconds old, by one asker at a time."""

    def __init__(
        self, ask: Callable[[], Awaitable[T]], kept_s: float, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask, self._kept_s, self._clock_s = ask, kept_s, clock_s
        self._asking = asyncio.Lock()
        self._answer: tuple[float, T] | None = None

    async def get(self) -> T:
        """The answer, at most `kept_s` old."""
        async with self._asking:
            if self._answer is None or self._clock_s() - self._answer[0] >= self._kept_s:
                answer = await self._ask()
                self._answer = (self._clock_s(), answer)
            return self._answer[1]


def overall(
    database: PartView,
    telnyx: PartView,
    speech: Sequence[PartView],
    hearing: Sequence[PartView] = (),
    thinking: Sequence[PartView] = (),
) -> Overall:
    """`down` when calls cannot work: no records, a carrier that refuses, not one voice, nothing that hears.

    Speech-to-text and language models are known only once they were asked: until then they count as well.
    Without a language model calls keep to what is written.
    """
    none_left = any(part and all(route.state == "down" for route in part) for part in (speech, hearing))
    if database.state == "down" or telnyx.state == "down" or none_left:
        return "down"
    all_up = all(part.state == "up" for part in (database, telnyx, *speech))
    none_down = all(part.state != "down" for part in (*hearing, *thinking))
    return "ok" if all_up and speech and none_down else "degraded"


def health_router(
    manager: LiveCount,
    routes: SpeechState,
    store: Pingable,
    carrier: Checkable | None,
    guard: Guard,
    *,
    version: str,
    hearing: Callable[[], Sequence[RouteHealth]] = tuple,
    thinking: Callable[[], Sequence[LlmHealth]] = tuple,
    voices: Callable[[], dict[str, str]] = dict,
    problems: Callable[[], list[str]] = list,
) -> APIRouter:
    """`GET /api/v1/health`. `carrier` None: no Telnyx key is set. From `hearing` on: told at once."""
    router = APIRouter(tags=["health"])
    database = Kept(lambda: _check("answers", store.ping), kept_s=1.0)
    telnyx = Kept(lambda: _check_carrier(carrier), TELNYX_KEPT_S)
    speech = Kept(lambda: _check_speech(routes), SPEECH_KEPT_S)

    @router.get("/api/v1/health", response_model_exclude_none=True)
    async def health(request: Request) -> HealthView:
        """What works: database, Telnyx, each speech route. Always 200."""
        async with asyncio.TaskGroup() as asking:
            parts = [asking.create_task(part.get()) for part in (database, telnyx)]
            routes = asking.create_task(speech.get())
        ears = [_route_view(route) for route in hearing()]
        models = [LlmView.model_validate(model, from_attributes=True) for model in thinking()]
        status = overall(parts[0].result(), parts[1].result(), routes.result(), ears, models)
        found = problems()
        if found and status == "ok":
            status = "degraded"
        if guard.refusal(request.headers) is not None:
            return HealthView(status=status)
        return HealthView(
            status=status,
            version=version,
            live_calls=manager.live_calls,
            database=parts[0].result(),
            telnyx=parts[1].result(),
            speech=routes.result(),
            problems=found or None,
            voices=voices() or None,
            hearing=ears or None,
            language_models=models or None,
        )

    return router


async def _check(works: str, ask: Callable[[], Awaitable[None]]) -> PartView:
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await ask()
    except BackendError as error:
        return PartView(state="down", detail=str(error))
    except TimeoutError:
        return PartView(state="down", detail=f"It did not answer within {CHECK_TIMEOUT_S:g} s.")
    return PartView(state="up", detail=works, latency_ms=_since_ms(began_s))


async def _check_carrier(carrier: Checkable | None) -> PartView:
    if carrier is None:
        return PartView(
            state="not_set", detail="TELNYX_API_KEY is not set: no call can be answered or placed. Set it."
        )
    return await _check("reachable, and the key is accepted", carrier.check)


async def _check_speech(routes: SpeechState) -> list[RouteView]:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return [_route_view(route) for route in await routes.health()]
    except BackendError as error:
        return [RouteView(name="all", state="down", detail=str(error))]
    except TimeoutError:
        late = f"The speech routes did not answer within {CHECK_TIMEOUT_S:g} s. Look at the speech server."
        return [RouteView(name="all", state="down", detail=late)]


def _route_view(route: RouteHealth) -> RouteView:
    return RouteView.model_validate(route, from_attributes=True)


def _since_ms(began_s: float) -> float:
    return round((time.monotonic() - began_s) * 1000, 1)
