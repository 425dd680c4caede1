"""Tools against a real server on this machine, which does what servers do wrong."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from backend.core.agent import HttpTool
from backend.core.llm import ToolCall
from backend.errors import ToolError
from backend.llm.tools import MAX_RESULT_CHARS, HttpToolbox, make_http_client

SECRET = "crm-0123456789/abc"
SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["id"],
}


class Server:
    """Answers as told by `reply`; keeps what it was sent."""

    def __init__(self) -> None:
        self.url = ""
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.gone = asyncio.Event()
        self.reply: Callable[[str], bytes | None] = lambda _: answer(b"{}")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lengths = [
                    line[15:] for line in head.split("\r\n") if line.lower().startswith("content-length:")
                ]
                self.bodies.append(await reader.readexactly(int(lengths[0]) if lengths else 0))
                self.heads.append(head)
                told = self.reply(head.split(" ")[1])
                if told is None:
                    await reader.read()
                    return
                writer.write(told)
                await writer.drain()
                if not told.startswith(b"HTTP/1.1"):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone.set()
            writer.close()


def answer(body: bytes = b"", *, status: int = 200, kind: str = "application/json", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        listening.close()


@asynccontextmanager
async def toolbox(
    url: str,
    *,
    variables: dict[str, str] | None = None,
    secrets: dict[str, str] | None = None,
    **changes: Any,
) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    described = {
        "name": "book",
        "description": "Books.",
        "url": url,
        "headers": {"Authorization": "Bearer {{secret:CRM_KEY}}"},
        "parameters": SCHEMA,
        "timeout_ms": 2000,
        **changes,
    }
    tool = HttpTool.model_validate_json(json.dumps(described))
    async with make_http_client() as http:
        given = {"CRM_KEY": SECRET} if secrets is None else secrets
        box = HttpToolbox([tool], variables=variables or {}, secrets=given, http=http)

        async def call(arguments: str = '{"id": "7", "people": 2}', name: str = "book") -> str:
            return await box.call(ToolCall("call_0", name, arguments))

        yield call


async def refusal(call: Callable[..., Awaitable[str]], *arguments: str) -> str:
    with pytest.raises(ToolError) as caught:
        await call(*arguments)
    assert SECRET not in str(caught.value)
    return str(caught.value)


async def test_a_tool_is_called_and_its_json_is_told() -> None:
    async with server() as crm, toolbox(crm.url + "/{{branch}}/x", variables={"branch": "b 1"}) as call:
        crm.reply = lambda _: answer('{ "booked": true,\n "when": "Zwölf" }'.encode())
        assert await call() == '{"booked":true,"when":"Zwölf"}'
        assert crm.heads[0].startswith("POST /b%201/x HTTP/1.1")
        assert f"Authorization: Bearer {SECRET}\r\n" in crm.heads[0]
        assert json.loads(crm.bodies[0]) == {"id": "7", "people": 2}


async def test_its_answer_sets_variables_from_beyond_what_the_model_is_shown() -> None:
    known = {"slot": "none", "other": "kept"}
    paths = {"slot": "slots.0", "other": "nowhere", "key": "key"}
    whole = {"much": "x" * 2 * MAX_RESULT_CHARS, "slots": ["9:30"], "key": SECRET}
    async with server() as crm, toolbox(crm.url, variables=known, set=paths) as call:
        for kind in ("application/json", "text/plain"):
            known["slot"] = "none"
            crm.reply = lambda _, kind=kind: answer(json.dumps(whole).encode(), kind=kind)  # type: ignore[misc]
            assert "9:30" not in await call()
            assert known == {"slot": "9:30", "other": "kept", "key": "[secret]"}
        crm.reply = lambda _: answer(b'{"slots": ["10:00"]}', status=404)
        await refusal(call)
        assert known["slot"] == "9:30"


async def test_a_path_that_finds_nothing_is_logged_without_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    paths = {"state": "order.status", "car": "$.order.car", "when": "order.when"}
    async with server() as crm, toolbox(crm.url, variables={}, set=paths) as call:
        crm.reply = lambda _: answer(b'{"order": {"state": "private words", "car": "van", "when": null}}')
        await call()
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "tool book: set: state: the path 'order.status' finds nothing in the answer",
        "tool book: set: car: the path '$.order.car' finds nothing in the answer",
    ]


async def test_get_sends_a_query_and_no_body() -> None:
    async with server() as crm, toolbox(crm.url + "/o/{id}", method="GET") as call:
        crm.reply = lambda _: answer(b"Open until six.", kind="text/plain; charset=utf-8")
        assert await call() == "Open until six."
        assert crm.heads[0].startswith("GET /o/7?people=2 HTTP/1.1") and crm.bodies == [b""]


async def test_an_empty_answer_is_a_success() -> None:
    async with server() as crm, toolbox(crm.url) as call:
        crm.reply = lambda _: answer(status=204)
        assert await call() == "Done; there is no further answer."


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            answer(b'{"error": "no such order"}', status=404),
            'refused this (HTTP 404): {"error":"no such order"}',
        ),
        (answer(b"key?", status=401), "not set up correctly (HTTP 401)"),
        (answer(b"slow down", status=429), "too often just now"),
        (answer(b"Traceback: password=hunter2", status=500), "book failed (HTTP 500)."),
        (answer(b'{"a": '), "not valid JSON"),
        (answer(b"<html>", kind="application/json"), "not valid JSON"),
        (answer(b"\x89PNG", kind="image/png"), "not text (image/png)"),
        (answer(gzip.compress(b"{}"), more="Content-Encoding: gzip\r\n"), "not set up correctly"),
        (b"what?\r\n\r\n", "cannot be reached"),
        (answer(b"{}")[:-1] + b"", "cannot be reached"),
        (answer(status=302, more="Location: http://127.0.0.2:1/x\r\n"), "not set up correctly"),
        (answer(status=302, more="Location: https://crm.example/\r\n"), "not set up correctly"),
        (answer(status=301, more="Location: /other\r\n"), "not set up correctly"),
        (answer(status=307, more="Location: /again\r\n"), "not set up correctly"),
        (answer(status=307, more="Location: http://[::x/\r\n"), "cannot be reached"),
        (None, "did not answer in time. It may have been done all the same."),
    ],
)
async def test_what_goes_wrong_is_a_sentence(reply: bytes | None, words: str) -> None:
    cut = reply is not None and reply.endswith(b"{")
    async with server() as crm, toolbox(crm.url + "/x", timeout_ms=300 if reply is None else 2000) as call:

        def told(_: str) -> bytes | None:
            return reply if not cut else b"HTTP/1.0 200 X\r\nContent-Length: 9\r\n\r\n{"

        crm.reply = told
        assert words in await refusal(call)
        if reply is None:
            await asyncio.wait_for(crm.gone.wait(), 30)  # nothing is left running


async def test_a_redirect_within_the_host_is_followed_with_its_headers() -> None:
    async with server() as crm, toolbox(crm.url + "/x", method="GET") as call:
        crm.reply = lambda path: (
            answer(b'"here"') if path == "/y" else answer(status=302, more="Location: /y\r\n")
        )
        assert await call() == '"here"'
        assert [head.split(" ")[1] for head in crm.heads] == ["/x?id=7&people=2", "/y"]
        assert SECRET in crm.heads[1]


async def test_a_redirect_elsewhere_is_never_asked() -> None:
    async with server() as other, server() as crm, toolbox(crm.url + "/x", method="GET") as call:
        crm.reply = lambda _: answer(status=302, more=f"Location: {other.url}/steal\r\n")
        await refusal(call)
        assert other.heads == []


async def test_nobody_there() -> None:
    async with toolbox("http://127.0.0.1:1/x") as call:
        assert await refusal(call) == "book cannot be reached right now."


async def test_a_tool_that_is_none() -> None:
    async with toolbox("http://127.0.0.1:1/x") as call:
        assert await refusal(call, "{}", "transfer_money") == (
            "There is no tool 'transfer_money'. There are: book."
        )


async def test_arguments_that_do_not_fit_are_not_sent() -> None:
    async with server() as crm, toolbox(crm.url) as call:
        assert "'id' is a required property" in await refusal(call, '{"people": 2}')
        assert "not valid JSON" in await refusal(call, '{"id": ')
        assert crm.heads == []


async def test_a_long_answer_is_cut_and_a_huge_one_not_read_to_its_end() -> None:
    async with server() as crm, toolbox(crm.url) as call:
        crm.reply = lambda _: answer(json.dumps(["word"] * 9000).encode())
        told = await call()
        assert len(told) == MAX_RESULT_CHARS and told.endswith("the answer is too long)")
        crm.reply = lambda _: b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n\r\n" + b"[" * (1 << 20)
        assert len(await call()) == MAX_RESULT_CHARS


@pytest.mark.parametrize("status", [200, 404])
async def test_an_echoed_secret_is_cut_out(status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with server() as crm, toolbox(crm.url) as call:
        crm.reply = lambda _: answer(json.dumps({"you": f"Bearer {SECRET}"}).encode(), status=status)
        told = await call() if status == 200 else await refusal(call)
        assert "Bearer [secret]" in told and SECRET not in told
    assert SECRET not in caplog.text


@pytest.mark.parametrize("status", [200, 404])
async def test_a_secret_echoed_in_disguise_is_cut_out(status: int) -> None:
    disguised = "".join(f"\\u{ord(char):04X}" for char in SECRET)
    async with server() as crm, toolbox(crm.url) as call:
        crm.reply = lambda _: answer(f'{{"you":"{disguised}"}}'.encode(), status=status)
        told = await call() if status == 200 else await refusal(call)
        assert '{"you":"[secret]"}' in told


async def test_half_a_character_can_be_sent_on() -> None:
    async with server() as crm, toolbox(crm.url) as call:
        crm.reply = lambda _: answer(b'{"mood":"\\ud83d"}')
        assert (await call()).encode() == b'{"mood":"?"}'


async def test_a_secret_that_cannot_be_sent_stays_here(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with server() as crm, toolbox(crm.url, secrets={"CRM_KEY": "broken\u2028key\x7f-12345"}) as call:
        await call()  # control characters are spaces by now
        assert crm.heads
    async with server() as crm, toolbox(crm.url, secrets={}) as call:
        assert "not set up" in await refusal(call)
        assert crm.heads == []
    assert "12345" not in caplog.text


async def test_no_cookie_goes_from_one_call_to_another() -> None:
    async with server() as crm, toolbox(crm.url) as call:
        crm.reply = lambda _: answer(b"{}", more="Set-Cookie: session=caller-1; Path=/\r\n")
        await call()
        await call()
        assert len(crm.heads) == 2 and "cookie" not in crm.heads[1].lower()


async def test_a_caller_who_hangs_up_ends_the_request() -> None:
    async with server() as crm, toolbox(crm.url, timeout_ms=60_000) as call:
        began = asyncio.Event()

        def never(_: str) -> None:
            began.set()

        crm.reply = never
        calling = asyncio.ensure_future(call())
        await asyncio.wait_for(began.wait(), 30)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await asyncio.wait_for(crm.gone.wait(), 30)
