"""Webhooks: one POST, and nothing raised whatever becomes of it."""

from __future__ import annotations

import json
import logging

import httpx
import pytest

from backend.llm.webhook import WebhookSender

URL = "https://crm.example/hook?token=hush"


def sender(answer: httpx.Response | Exception, seen: list[httpx.Request]) -> WebhookSender:
    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return WebhookSender(httpx.AsyncClient(transport=httpx.MockTransport(handle)), timeout_s=0.5)


async def test_the_data_is_posted_as_json() -> None:
    seen: list[httpx.Request] = []
    await sender(httpx.Response(204), seen).send(URL, {"call_id": "c1", "variables": {"name": "Zoë"}})
    (request,) = seen
    assert (request.method, str(request.url)) == ("POST", URL)
    assert json.loads(request.content) == {"call_id": "c1", "variables": {"name": "Zoë"}}


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (httpx.Response(500), "HTTP 500"),
        (httpx.ConnectError("no"), "cannot be reached"),
        (TimeoutError(), "no answer"),
        (httpx.ReadTimeout("slow"), "cannot be reached"),
    ],
)
async def test_what_fails_is_logged_without_the_address(
    answer: httpx.Response | Exception, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "backend.llm.webhook"):
        await sender(answer, []).send(URL, {})
    assert word in caplog.text
    assert "hush" not in caplog.text
