"""Looks at an ElevenLabs account, against a real HTTP server on loopback that answers as the vendor does."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from backend.errors import SpeechError
from backend.tts.elevenlabs_account import ElevenLabsAccount
from tests.backend.tts.answering import server

KEY = "sk_secret"


def detail(status: str, message: str = "said by the vendor") -> dict[str, object]:
    return {"detail": {"status": status, "message": message}}


def credit(used: int, limit: int = 100_000, **more: object) -> dict[str, object]:
    return {"tier": "creator", "character_count": used, "character_limit": limit, "status": "active", **more}


async def look(
    answer: Callable[[str, str], tuple[int, object] | None], voice: str | None = None
) -> str | None:
    async with server(answer) as url:
        account = ElevenLabsAccount(f"{url}/", api_key=KEY, timeout_s=0.3)
        try:
            if voice is None:
                return await account.look()
            await account.look_up(voice)
            return None
        finally:
            await account.aclose()


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (credit(40_000), "60000 of 100000 credits left"),
        (credit(99_000), "1000 of 100000 credits left; few are left: buy more"),
        (credit(120_000, can_extend_character_limit=True), "0 of 100000 credits left, then billed by use"),
        ({"tier": "enterprise"}, "the key is accepted"),
    ],
)
async def test_the_credit_is_told(told: object, said: str) -> None:
    def answer(path: str, key: str) -> tuple[int, object]:
        return (200, told) if (path, key) == ("/v1/user/subscription", KEY) else (404, {})

    assert await look(answer) == said


async def test_a_key_for_speech_alone_is_good() -> None:
    refused = (401, detail("missing_permissions", "The API key you used is missing the permission user_read"))
    assert await look(lambda path, key: refused) == "the key is accepted; it may not look at its credit"
    assert await look(lambda path, key: refused, "adam") is None


@pytest.mark.parametrize(
    ("status", "body", "reason", "said"),
    [
        (200, credit(100_000), "quota", "all 100000 credits are used up"),
        (
            200,
            credit(100_000, can_extend_character_limit=True, max_character_limit_extension=0),
            "quota",
            "all 100000",
        ),
        (401, detail("invalid_api_key"), "unauthorized", "check ELEVENLABS_API_KEY"),
        (401, detail("quota_exceeded"), "quota", "out of credit"),
        (429, detail("too_many_concurrent_requests"), "rate_limited", "said by the vendor"),
        (500, b"oops", "generation_failed", "HTTP 500"),
        (200, b"<html>", "unreachable", "check ELEVENLABS_BASE_URL"),
        (200, [1], "unreachable", "check ELEVENLABS_BASE_URL"),
    ],
)
async def test_what_is_wrong_is_told_apart(status: int, body: object, reason: str, said: str) -> None:
    with pytest.raises(SpeechError, match=said) as caught:
        await look(lambda path, key: (status, body))
    assert caught.value.reason == reason and KEY not in str(caught.value)


@pytest.mark.parametrize("status", [400, 404])
async def test_a_voice_nobody_knows(status: int) -> None:
    asked: list[str] = []

    def answer(path: str, key: str) -> tuple[int, object]:
        asked.append(path)
        return status, detail("voice_not_found", "A voice with that id was not found")

    with pytest.raises(SpeechError, match="elevenlabs_settings.voice_id") as caught:
        await look(answer, "ad/am")
    assert caught.value.reason == "unknown_voice" and asked == ["/v1/voices/ad%2Fam"]


async def test_a_voice_it_knows() -> None:
    assert await look(lambda path, key: (200, {"voice_id": "adam"}), "adam") is None


async def test_no_answer_and_nobody_there() -> None:
    with pytest.raises(SpeechError) as caught:
        await look(lambda path, key: None)
    assert caught.value.reason == "timeout"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        account = ElevenLabsAccount(f"http://127.0.0.1:{taken.getsockname()[1]}", api_key=KEY)
        with pytest.raises(SpeechError) as caught:
            await account.look()
        await account.aclose()
    assert caught.value.reason == "unreachable"
