"""Who may open a call's media socket, and what becomes of what comes over it."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from backend.calls.media_line import MediaLine
from backend.core.dtmf import Source
from backend.core.g711 import Codec
from backend.core.media import UnsupportedLeg
from tests.backend.calls.fakes import Line, until

FRAME = {
    "track": "inbound",
    "chunk": "1",
    "timestamp": "0",
    "payload": base64.b64encode(b"\xff" * 160).decode(),
}


class User:
    """Writes down what its line tells."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.wants = True

    def wants_line(self) -> bool:
        return self.wants

    def line_is_up(self, codec: Codec) -> None:
        self.told.append(("up", codec))

    def line_lost(self) -> None:
        self.told.append(("lost",))

    def line_unusable(self, error: UnsupportedLeg) -> None:
        self.told.append(("unusable",))

    def caller_audio(self, g711: bytes) -> None:
        self.told.append(("audio", len(g711)))

    def mark_returned(self, name: str) -> None:
        self.told.append(("mark", name))

    def key_pressed(self, digit: str, source: Source) -> None:
        self.told.append(("key", digit, source))


async def test_a_token_serves_once_and_only_with_its_other_half() -> None:
    line = MediaLine("call", User())
    assert not line.claims("", "")
    token, auth_token = line.new_tokens()
    assert not line.claims("another", auth_token)
    assert not line.claims(token, "another")
    assert line.claims(token, auth_token)
    assert not line.claims(token, auth_token)
    first, _ = line.new_tokens()
    second, _ = line.new_tokens()
    assert not line.claims(first, None)
    assert line.claims(second, None)


async def test_a_call_that_is_over_wants_no_line() -> None:
    user, socket = User(), Line()
    line = MediaLine("call", user)
    token, _ = line.new_tokens()
    user.wants = False
    assert not line.claims(token, None)
    over = asyncio.Event()
    serving = asyncio.create_task(line.serve(socket, over))
    socket.start()
    over.set()
    await serving
    assert user.told == []
    assert socket.closed.is_set()


async def test_what_comes_over_the_line_is_handed_on_in_order() -> None:
    user, socket = User(), Line()
    line = MediaLine("call", user)
    serving = asyncio.create_task(line.serve(socket, asyncio.Event()))
    socket.start("PCMA")
    socket.hear("media", media=FRAME)
    socket.hear("dtmf", dtmf={"digit": "5"})
    socket.hear("mark", mark={"name": "m1"})
    socket.hear("stop")
    await serving
    assert user.told[0] == ("up", Codec.PCMA)
    assert ("audio", 160) in user.told
    assert [told for told in user.told if told[0] in ("key", "mark", "lost")] == [
        ("key", "5", "media"),
        ("mark", "m1"),
        ("lost",),
    ]


async def test_a_leg_of_another_kind_is_told() -> None:
    user, socket = User(), Line()
    serving = asyncio.create_task(MediaLine("call", user).serve(socket, asyncio.Event()))
    socket.start("G722")
    await serving
    assert user.told == [("unusable",)]


async def test_a_socket_that_takes_nothing_is_given_up_and_frames_go_nowhere() -> None:
    user, socket = User(), Line()
    line = MediaLine("call", user)
    serving = asyncio.create_task(line.serve(socket, asyncio.Event()))
    socket.start()
    await until(lambda: user.told)
    socket.broken = True
    await line.send('{"event":"clear"}')
    await serving
    assert user.told[-1] == ("lost",)
    await line.send('{"event":"clear"}')
    assert socket.sent == []
