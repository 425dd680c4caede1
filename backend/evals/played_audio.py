"""A caller played by a language model, on a call through the real processes: the Telnyx stand-in's person
hears and speaks for it. Time passes while it thinks, as with people."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import httpx

from backend.calls.ports import LanguageModel
from backend.evals.played import HangUp, Move, Press, Say
from backend.evals.played_call import QUIET_S, PlayerError, play
from backend.evals.suite import PlayedBy
from backend.simulator.call_run import CallRunError, json_of
from backend.simulator.caller import KEY_GAP_MS
from backend.simulator.stack import Stack

T = TypeVar("T")
_POLL_S = 0.1


async def play_aloud(
    stack: Stack, call_control_id: str, *, played_by: PlayedBy, player: LanguageModel, noise_db: float | None
) -> dict[str, Any]:
    """As `play`. However it ends, the call is over then. Raises PlayerError, CallRunError."""
    phone = _Phone(stack.carrier, call_control_id, noise_db)
    try:
        return await play(phone, played_by, player)
    finally:
        await phone.hang_up()


class _Phone:
    """The caller's end of a call on the stand-in."""

    def __init__(self, carrier: httpx.AsyncClient, call_control_id: str, noise_db: float | None) -> None:
        self._carrier, self._path, self._noise_db = carrier, f"/sim/calls/{call_control_id}", noise_db
        self._heard = 0

    async def listen(self, patience_s: float) -> str | None:
        loop = asyncio.get_running_loop()
        heard: list[str] = []
        began_s = loop.time()
        while (line := await self._line())["state"] != "ended":
            heard += line["heard"]
            self._heard = int(line["next"])
            if line["state"] == "ringing":
                began_s = loop.time()
            # What was quiet before is not counted: the caller has just done something.
            quiet_s = min(float(line["quiet_ms"]) / 1000, loop.time() - began_s)
            words = " ".join(" ".join(heard).split())
            if quiet_s >= (QUIET_S if words else patience_s):
                return words
            await asyncio.sleep(_POLL_S)
        return None

    async def spoken_meanwhile(self) -> bool:
        line = await self._line()
        return line["state"] == "ended" or int(line["next"]) > self._heard or line["quiet_ms"] == 0

    async def do(self, move: Move) -> None:
        match move:
            case Say(text):
                if await self._post("say", text=text, noise_db=self._noise_db):
                    await self._until_said()
            case Press(keys):
                if await self._post("press", digits=keys):
                    await asyncio.sleep(len(keys) * KEY_GAP_MS / 1000)
            case HangUp():
                await self.hang_up()

    async def apart(self, work: Coroutine[Any, Any, T]) -> T:
        return await work

    async def hang_up(self) -> None:
        """The call is over afterwards, as it may have been before."""
        await self._post("hangup")

    async def _post(self, what: str, **body: Any) -> bool:
        """Whether it is done; not where the call has just ended. Raises PlayerError for words that cannot be
        spoken, CallRunError without a stand-in."""
        try:
            reply = await self._carrier.post(f"{self._path}/{what}", json=body)
        except httpx.TransportError as error:
            raise CallRunError(f"the stand-in lost the call: {error or type(error).__name__}") from error
        if "error" in (answer := reply.json()):
            raise PlayerError(f"the caller's words cannot be spoken: {answer['error']['message']}")
        return reply.is_success

    async def _until_said(self) -> None:
        while True:
            line = await self._line()
            if line["state"] == "ended" or not line["caller_speaking"]:
                return
            await asyncio.sleep(_POLL_S)

    async def _line(self) -> Mapping[str, Any]:
        request = self._carrier.get(f"{self._path}/line", params={"after": self._heard})
        return await json_of(request, "the stand-in lost the call")
