from __future__ import annotations

import pytest

from runpod_server.api.request_id import id_for

KEY = "a-key-nobody-guesses"


@pytest.mark.parametrize(
    "method, path",
    [("GET", "/health"), ("GET", "/v1/models"), ("GET", "/voices"), ("POST", "/generate"),
     ("POST", "/v1/audio/speech"), ("GET", "/nothing-here"), ("GET", "/docs")],
)  # fmt: skip
@pytest.mark.parametrize("key", [None, KEY], ids=["refused", "with the key"])
async def test_every_answer_has_the_id(start, commanded, method: str, path: str, key: str | None) -> None:
    server = start(commanded({}), sesame_api_key=KEY)
    async with server.client(key) as http:
        given = await http.request(method, path, headers={"x-request-id": "call-7.leg:2"})
        first, second = await http.request(method, path), await http.request(method, path)
    assert given.headers.get_list("x-request-id") == ["call-7.leg:2"]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize("bad", [b"", b"a b", b"x" * 129, b"\xff", b"a\r\nset-cookie: x"])
def test_an_id_that_is_no_plain_word_is_replaced(bad: bytes) -> None:
    assert id_for([(b"x-request-id", bad)]) != bad


def test_an_id_that_is_one_is_kept() -> None:
    assert id_for([(b"accept", b"*/*"), (b"x-request-id", b"x" * 128)]) == b"x" * 128
