"""Who may use the API: the holder of API_KEY, or, where none is set, a program on this very machine."""

from __future__ import annotations

import hmac
import ipaddress
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers

from backend.errors import ConfigError, RequestError

_bearer = HTTPBearer(auto_error=False, description="The backend's API_KEY.")
# A tunnel or proxy says that it stands between: the request comes from elsewhere, whatever HOST is.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "cf-connecting-ip", "via")


class Guard:
    """A FastAPI dependency: raises RequestError (401) for a request that may not use the API."""

    def __init__(self, api_key: str | None) -> None:
        self._api_key = api_key.encode() if api_key else None

    async def __call__(
        self, request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> None:
        if reason := self.refusal(request.headers):
            raise RequestError(reason, status=401, code="unauthorized")

    def refusal(self, headers: Headers) -> str | None:
        """Why a request with these headers may not use the API, as a sentence; None if it may."""
        if self._api_key is None:
            return None if _is_local(headers) else _NOT_LOCAL
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if not given or scheme.lower() != "bearer":
            return "An API key is needed: send the header `Authorization: Bearer <API_KEY>`."
        if not hmac.compare_digest(given.strip().encode("latin-1"), self._api_key):
            return "The API key is not the one in API_KEY of the backend."
        return None


_NOT_LOCAL = (
    "Without an API key the API serves only programs on its own machine, and this request comes through a "
    "proxy or a tunnel, or names another host. Set API_KEY, and send `Authorization: Bearer <API_KEY>`."
)


def make_guard(*, api_key: str | None, host: str) -> Guard:
    """The guard for a backend that listens on `host`.

    Raises ConfigError where no key is set although other machines can reach it.
    """
    if api_key is not None and not api_key.strip():
        api_key = None
    if api_key is None and not is_loopback(host):
        raise ConfigError(
            f"API_KEY is not set, and with HOST={host} anybody who reaches this machine could place calls. "
            "Set API_KEY to a long random word, or HOST to 127.0.0.1."
        )
    return Guard(api_key)


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address) is this machine alone."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_local(headers: Headers) -> bool:
    # The Host header also tells a web page that was bound to a loopback address (DNS rebinding) apart.
    host = headers.get("host", "")
    name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
    return is_loopback(name) and not any(header in headers for header in _FORWARDED)
