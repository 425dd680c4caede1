"""Telnyx's Call Control over HTTP, under /v2: checks the key, ignores repeated commands, words answers."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from backend.simulator import commands, refusal
from backend.simulator.call import SimCall
from backend.simulator.carrier import Carrier
from backend.simulator.commands import Body

_REMEMBER_S = 60.0
_MAX_REMEMBERED = 10_000

Result = dict[str, Any]


class CommandMemory:
    """Answers to commands by their `command_id`: within 60 s a repeated one gets the first one's answer."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, str], tuple[float, Result]] = OrderedDict()

    def run(self, scope: str, command_id: object, now_s: float, command: Callable[[], Result]) -> Result:
        """The command's result, or that of the same command before. Refused ones are not remembered."""
        while self._answers and (
            len(self._answers) >= _MAX_REMEMBERED or next(iter(self._answers.values()))[0] <= now_s
        ):
            self._answers.popitem(last=False)
        if not isinstance(command_id, str) or not command_id:
            return command()
        remembered = self._answers.get((scope, command_id))
        if remembered is None:
            remembered = self._answers[scope, command_id] = (now_s + _REMEMBER_S, command())
        return remembered[1]


def carrier_router(carrier: Carrier) -> APIRouter:
    """`/v2/calls…`. Raises `Refusal`, which the server turns into Telnyx's error body."""
    key = carrier.config.api_key
    memory = CommandMemory()

    def authorized(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if key is not None and not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
            raise refusal.unauthorized()

    router = APIRouter(prefix="/v2", dependencies=[Depends(authorized)], tags=["Telnyx Call Control"])

    @router.get("/balance")
    async def balance() -> JSONResponse:
        amounts = dict.fromkeys(("balance", "available_credit"), "100.00")
        return _answer({"record_type": "balance", "currency": "USD", "credit_limit": "0.00", **amounts})

    @router.post("/calls")
    async def dial(body: Annotated[Body, Depends(_body)]) -> JSONResponse:
        def command() -> Result:
            call = carrier.dial(commands.dial(body, webhook_url=carrier.config.webhook_url))
            return _call_data(call)

        return _answer(memory.run("dial", body.get("command_id"), time.monotonic(), command))

    @router.get("/calls/{call_control_id}")
    async def status(call_control_id: str) -> JSONResponse:
        return _answer(_call_data(carrier.call(call_control_id)))

    @router.post("/calls/{call_control_id}/actions/{action}")
    async def act(
        call_control_id: str, action: str, body: Annotated[Body, Depends(_body)], request: Request
    ) -> JSONResponse:
        perform = _ACTIONS.get(action)
        if perform is None:
            detail = f"The stand-in does not know the action {action!r}; it knows {', '.join(_ACTIONS)}."
            raise refusal.Refusal(404, "10005", "Resource not found", detail)
        call = carrier.call(call_control_id)

        def command() -> Result:
            state = commands.client_state(body)
            result = perform(call, body, str(request.base_url))
            if state is not None:
                call.client_state = state
            return {"result": "ok", **result}

        return _answer(memory.run(call_control_id, body.get("command_id"), time.monotonic(), command))

    return router


async def _body(request: Request) -> Body:
    raw = await request.body()
    if not raw:
        return {}
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise refusal.Refusal(400, "10023", "Invalid JSON", f"The body is not JSON: {error}.") from None
    if not isinstance(body, dict):
        raise refusal.Refusal(400, "10015", "Bad Request", "The body must be a JSON object.")
    return body


def _answer(data: Result) -> JSONResponse:
    return JSONResponse({"data": data})


def _call_data(call: SimCall) -> Result:
    return {
        "record_type": "call",
        "call_control_id": call.call_control_id,
        "call_leg_id": call.call_leg_id,
        "call_session_id": call.call_session_id,
        "client_state": call.client_state,
        "is_alive": call.state != "ended",
        "start_time": call.created_at.isoformat().replace("+00:00", "Z"),
    }


def _start_streaming(call: SimCall, body: Body, base_url: str) -> Result:
    order = commands.stream(body, required=True)
    assert order is not None
    return {"stream_id": call.start_streaming(order)}


def _start_recording(call: SimCall, body: Body, base_url: str) -> Result:
    call.start_recording(commands.recording(body, base_url))
    return {}


def _plain(perform: Callable[[SimCall, Body], None]) -> Callable[[SimCall, Body, str], Result]:
    def wrapped(call: SimCall, body: Body, base_url: str) -> Result:
        perform(call, body)
        return {}

    return wrapped


_ACTIONS: dict[str, Callable[[SimCall, Body, str], Result]] = {
    "answer": _plain(lambda call, body: call.answer(commands.stream(body, required=False))),
    "reject": _plain(
        lambda call, body: call.reject(commands.choice(body, "cause", commands.REJECT_CAUSES, None))
    ),
    "hangup": _plain(lambda call, body: call.hang_up()),
    "streaming_start": _start_streaming,
    "streaming_stop": _plain(lambda call, body: call.stop_streaming()),
    "speak": _plain(lambda call, body: call.speak(_speak_text(body))),
    "playback_stop": _plain(
        lambda call, body: call.stop_playback(commands.choice(body, "stop", ("all", "current"), "all"))
    ),
    "transcription_start": _plain(lambda call, body: call.start_transcription(commands.transcription(body))),
    "transcription_stop": _plain(lambda call, body: call.stop_transcription()),
    "record_start": _start_recording,
    "record_stop": _plain(lambda call, body: call.stop_recording()),
    "transfer": _plain(
        lambda call, body: call.transfer(
            commands.number(body, "to"),
            commands.optional_text(body, "from"),
            commands.client_state(body, "target_leg_client_state"),
        )
    ),
    "send_dtmf": _plain(lambda call, body: call.send_dtmf(commands.digits(body))),
}


def _speak_text(body: Body) -> str:
    commands.text(body, "voice")
    return commands.text(body, "payload", longest=3_000)
