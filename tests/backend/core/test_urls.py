from __future__ import annotations

import pytest

from backend.core.urls import check_http_url, plain_url, websocket_url


@pytest.mark.parametrize(
    ("http", "ws"),
    [
        ("http://127.0.0.1:8000", "ws://127.0.0.1:8000/ws/generate"),
        ("https://abc-8000.proxy.runpod.net/", "wss://abc-8000.proxy.runpod.net/ws/generate"),
        ("https://example.com/speech", "wss://example.com/speech/ws/generate"),
        ("HTTPS://example.com", "wss://example.com/ws/generate"),
    ],
)
def test_websocket_address(http: str, ws: str) -> None:
    assert websocket_url(http, "/ws/generate") == ws


def test_tidied() -> None:
    assert check_http_url("  https://example.com/ ") == "https://example.com"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ws://example.com",
        "http://",
        "http://x:port",
        "http://x:99999",
        "http://x/?a=1",
        "http://[::1",
    ],
)
def test_unusable_addresses_say_what_is_wanted(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        check_http_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:key@host.example:8443/base?key=1#x", "https://host.example:8443/base"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("this machine", "this machine"),
        ("http://[::1", "an address that is none"),
    ],
)
def test_an_address_for_people_holds_no_key(url: str, shown: str) -> None:
    assert plain_url(url) == shown
