"""Addresses derived from addresses: http to ws, a path added. Refuses to know whose they are."""

from __future__ import annotations

from urllib.parse import urlsplit


def check_http_url(url: str) -> str:
    """The address without white space around it and slashes after it. Raises ValueError with a sentence."""
    url = url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises when it is not a port
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be an address such as https://example.com or http://127.0.0.1:8000")
    if parts.query or parts.fragment:
        raise ValueError("must be an address without ? or #")
    return url


def plain_url(url: str) -> str:
    """The address for people: without user, password and query, which may be secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def websocket_url(http_url: str, path: str) -> str:
    """`https://host/base` and `/ws/x` → `wss://host/base/ws/x`; http → ws."""
    scheme, _, rest = http_url.rstrip("/").partition("://")
    return f"{'wss' if scheme.lower() == 'https' else 'ws'}://{rest}{path}"
