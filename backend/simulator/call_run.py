"""One call through a running stack, from the first ring to its evidence: both records and the audio.

Follows the call as it happens and tells a listener. Decides nothing about whether the call was good.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx

from backend.errors import BackendError
from backend.simulator.stack import Stack

LONGEST_CALL_S = 300.0
_SETTLE_S = 15.0
_POLL_S = 0.1
_TALK = ("agent_speech", "caller_speech", "dtmf", "interrupt", "transfer", "hangup")


class CallRunError(BackendError):
    """A call that could not be placed, or did not end."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that just happened. `t_ms` is on the line's clock, None before media. Kinds are those of
    the line's events, and `turn`: the agent has finished one; `data` is the backend's record of it.
    """

    kind: str
    t_ms: float | None
    data: Mapping[str, Any]


Listener = Callable[[Moment], None]
During = Callable[[str], Awaitable[Mapping[str, Any]]]
"""Takes part in a call, named by its call_control_id, until it is over; what it gives is added to the
backend's record. When it fails it must end the call."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What remains of a call."""

    line: Mapping[str, Any]
    call: Mapping[str, Any]
    wav: bytes


async def run_inbound(
    stack: Stack,
    *,
    to: str,
    from_number: str,
    script: Mapping[str, Any],
    codec: str = "PCMU",
    network: Mapping[str, float] | None = None,
    listener: Listener | None = None,
    during: During | None = None,
) -> Evidence:
    """Somebody calls `to` and plays the script. Raises CallRunError, StackError when a process dies, and what
    `during` raises.

    `network`: chances that a frame of the caller's is lost (`lose`) or overtaken (`shuffle`).
    """

    async def placed() -> str:
        order = {"to": to, "from": from_number, "script": script, "codec": codec, "network": network}
        reply = await json_of(
            stack.carrier.post("/sim/calls", json=order), "the stand-in did not place the call"
        )
        return str(reply["call_control_id"])

    return await _run(stack, placed, listener, during)


async def run_outbound(
    stack: Stack,
    *,
    agent_id: str,
    to: str,
    variables: Mapping[str, str],
    script: Mapping[str, Any],
    codec: str = "PCMU",
    network: Mapping[str, float] | None = None,
    listener: Listener | None = None,
    during: During | None = None,
) -> Evidence:
    """The agent calls `to`, where the script picks up. Raises as `run_inbound` does."""

    async def placed() -> str:
        answering = {"script": script, "codec": codec, "network": network}
        await json_of(stack.carrier.post("/sim/answering", json=answering), "nobody would answer the call")
        order = {"agent_id": agent_id, "to": to, "variables": variables}
        call = await json_of(
            stack.backend.post("/api/v1/calls", json=order), "the backend did not place the call"
        )
        async with _deadline(_SETTLE_S, "the backend did not dial"):
            while not call.get("call_control_id"):
                if call.get("error"):
                    raise CallRunError(f"the backend did not dial: {call['error']}")
                await asyncio.sleep(_POLL_S)
                call = await json_of(stack.backend.get(f"/api/v1/calls/{call['id']}"), "the call was lost")
        return str(call["call_control_id"])

    return await _run(stack, placed, listener, during)


async def _run(
    stack: Stack,
    place: Callable[[], Coroutine[Any, Any, str]],
    listener: Listener | None,
    during: During | None,
) -> Evidence:
    """Place and follow, unless a process dies first: then its last words matter more than ours."""

    async def call() -> Evidence:
        after = (await json_of(stack.carrier.get("/sim/events", params={"wait_s": 0}), "no events"))["next"]
        call_control_id = await place()
        async with _taking_part(during, call_control_id) as further:
            evidence = await _follow(stack, call_control_id, int(after), listener or (lambda _: None))
            return replace(evidence, call={**evidence.call, **await further})

    calling = asyncio.create_task(call(), name="call")
    watching = asyncio.create_task(stack.watch(), name="watch")
    try:
        await asyncio.wait([calling, watching], return_when=asyncio.FIRST_COMPLETED)
        if watching.done() and (died := watching.exception()) is not None:
            raise died
        return await calling
    finally:
        calling.cancel()
        watching.cancel()
        await asyncio.wait([calling, watching])


@asynccontextmanager
async def _taking_part(
    during: During | None, call_control_id: str
) -> AsyncIterator[asyncio.Future[Mapping[str, Any]]]:
    """Runs it beside the call, and not longer."""

    async def part() -> Mapping[str, Any]:
        return {} if during is None else await during(call_control_id)

    task = asyncio.create_task(part(), name="part in the call")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _follow(stack: Stack, call_control_id: str, after: int, listener: Listener) -> Evidence:
    turns_told = 0
    async with _deadline(LONGEST_CALL_S, "the call did not end"):
        ended = False
        while not ended:
            line = await json_of(
                stack.carrier.get(f"/sim/calls/{call_control_id}"), "the stand-in lost the call"
            )
            ended = line["state"] == "ended"
            params: dict[str, float] = {"after": after, "wait_s": 0 if ended else 1}
            news = await json_of(stack.carrier.get("/sim/events", params=params), "no events")
            after = int(news["next"])
            mine = [event for event in news["events"] if event["call_control_id"] == call_control_id]
            turns_told = await _tell(stack, call_control_id, mine, turns_told, listener)
    wav = await _reply(
        stack.carrier.get(f"/sim/calls/{call_control_id}/audio.wav"), "there is no recording of the call"
    )
    return Evidence(line["record"], await _ended_call(stack, call_control_id), wav.content)


async def _tell(
    stack: Stack, call_control_id: str, events: list[dict[str, Any]], turns_told: int, listener: Listener
) -> int:
    """Tell what happened, and of the agent's turns those after `turns_told`. → how many were told."""
    moments = [Moment(event["kind"], event["t_ms"], event["data"]) for event in events]
    if any(moment.kind in _TALK for moment in moments):
        reply = await stack.backend.get(f"/api/v1/calls/{call_control_id}")
        turns = reply.json()["turns"] if reply.is_success else []
        spoken = [turn for turn in turns if turn["role"] == "agent"]
        moments += [Moment("turn", turn["ended_ms"], turn) for turn in spoken[turns_told:]]
        turns_told = max(turns_told, len(spoken))
    for moment in sorted(moments, key=lambda m: -1.0 if m.t_ms is None else m.t_ms):
        listener(moment)
    return turns_told


async def _ended_call(stack: Stack, call_control_id: str) -> dict[str, Any]:
    """The backend's record once it says that the call is over."""
    call: dict[str, Any] = {}
    try:
        async with asyncio.timeout(_SETTLE_S):
            while call.get("state") not in ("ended", "failed"):
                await asyncio.sleep(_POLL_S if call else 0)
                call = await json_of(
                    stack.backend.get(f"/api/v1/calls/{call_control_id}"),
                    "the backend does not know the call",
                )
    except TimeoutError:
        if not call:
            raise CallRunError("the backend did not tell about the call") from None
    return call  # the report says so when it is still not over


async def json_of(request: Awaitable[httpx.Response], problem: str) -> dict[str, Any]:
    """The JSON of a reply. Raises CallRunError, which begins with `problem`."""
    document: dict[str, Any] = (await _reply(request, problem)).json()
    return document


async def _reply(request: Awaitable[httpx.Response], problem: str) -> httpx.Response:
    try:
        reply = await request
    except httpx.TransportError as error:
        raise CallRunError(f"{problem}: {error or type(error).__name__}") from error
    if reply.is_success:
        return reply
    raise CallRunError(f"{problem}: {_message(reply)}")


def _message(reply: httpx.Response) -> str:
    """The sentence in an error reply, whichever program worded it."""
    try:
        body = reply.json()
    except ValueError:
        return f"{reply.status_code} {reply.text[:200]}"
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return str(body["message"]) if isinstance(body, dict) and "message" in body else str(error)


@asynccontextmanager
async def _deadline(seconds: float, problem: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise CallRunError(f"{problem} within {seconds:.0f} s") from error
