"""An agent's HTTP tools, carried out. Every failure is a sentence for the model; a secret never comes back.

What a request looks like is decided in `backend.core.tool_request`. Knows nothing of calls and flows.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from http.cookiejar import DefaultCookiePolicy

import httpx

from backend.core.agent import HttpTool
from backend.core.agent_secrets import redacted
from backend.core.llm import ToolCall, ToolSpec
from backend.core.tool_request import ToolRequest, build_request, parse_arguments
from backend.core.tool_values import unfound_at, values_at
from backend.errors import ToolError

log = logging.getLogger(__name__)

MAX_RESULT_CHARS = 16 * 1024
"""Longest result the model is shown; the rest is left out, and that is said."""
_MAX_BYTES = 256 << 10
_MAX_DETAIL = 500
_MAX_REDIRECTS = 3
_LET_GO_S = 1.0
_CUT = "\n… (the rest is left out: the answer is too long)"


def make_http_client() -> httpx.AsyncClient:
    """A client for all the tools of a process: it takes no proxy from the environment and keeps no cookies,
    so that no call sees another's session."""
    http = httpx.AsyncClient(
        limits=httpx.Limits(max_connections=1_000), timeout=None, trust_env=False, follow_redirects=False
    )
    http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return http


class HttpToolbox:
    """The tools of one call. Calls may overlap. `http` stays open."""

    def __init__(
        self,
        tools: Sequence[HttpTool],
        *,
        variables: MutableMapping[str, str],
        secrets: Mapping[str, str],
        http: httpx.AsyncClient,
    ) -> None:
        """`variables` are read anew at each call of a tool, and set by its answer. `secrets`: those that
        files may name."""
        self._tools = {tool.name: tool for tool in tools}
        self._variables, self._secrets, self._http = variables, secrets, http

    def specs(self, names: Iterable[str]) -> tuple[ToolSpec, ...]:
        """What the model is told of these tools; names that are none are left out."""
        tools = (self._tools[name] for name in names if name in self._tools)
        return tuple(ToolSpec(tool.name, tool.description, tool.parameters) for tool in tools)

    async def call(self, call: ToolCall) -> str:
        """The result as text, at most `MAX_RESULT_CHARS`. Raises ToolError with a sentence for the model."""
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools) or "none at all"
            raise ToolError(f"There is no tool {call.name[:64]!r}. There are: {known}.")
        try:
            arguments = parse_arguments(tool.name, call.arguments, tool.parameters)
            request = build_request(
                tool.name,
                method=tool.method,
                url=tool.url,
                headers=tool.headers,
                arguments=arguments,
                variables=self._variables,
                secrets=self._secrets,
            )
            async with asyncio.timeout(tool.timeout_ms / 1000):
                return await self._result(tool, request)
        except TimeoutError:
            log.warning("tool %s: no answer within %d ms", tool.name, tool.timeout_ms)
            # Whether it was done is open: a model that does it again may book twice.
            perhaps = "" if tool.method == "GET" else " It may have been done all the same."
            raise ToolError(f"{tool.name} did not answer in time.{perhaps}") from None
        except ToolError as error:
            raise ToolError(redacted(str(error), self._secrets)) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            # Its words may hold a header, and its request does: neither is passed on or logged.
            log.warning("tool %s: %s", tool.name, type(error).__name__)
            raise ToolError(f"{tool.name} cannot be reached right now.") from None

    async def _result(self, tool: HttpTool, request: ToolRequest) -> str:
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._send(request)
            try:
                onward = _redirect(tool, request, response)
                if onward is None:
                    return await self._read(tool, response)
                request = onward
            finally:
                await _let_go(response)
        raise _misconfigured(tool, "it redirects in a circle")

    async def _send(self, request: ToolRequest) -> httpx.Response:
        headers = [(name.encode(), value.encode()) for name, value in request.headers]
        built = self._http.build_request(
            request.method,
            request.url,
            # Uncompressed: what is small on the way cannot be huge here.
            headers=[*headers, (b"Accept-Encoding", b"identity"), (b"User-Agent", b"voice-agent")],
            content=request.body,
        )
        return await self._http.send(built, stream=True)

    async def _read(self, tool: HttpTool, response: httpx.Response) -> str:
        if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise _misconfigured(tool, "its answer is compressed, though that was not asked for")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > _MAX_BYTES:
                break
        text = redacted(_decoded(tool, response, bytes(body[:_MAX_BYTES])), self._secrets).strip()
        is_json = "json" in response.headers.get("content-type", "") and len(body) <= _MAX_BYTES
        if is_json and (plain := _compact(text)) is not None:
            # Once more: servers write "+" as \u002B and the like, which hides a key until it is read.
            text, is_json = redacted(plain, self._secrets), False
        if response.status_code >= 400:
            raise _failure(tool, response.status_code, text)
        if not text:
            return "Done; there is no further answer."
        if is_json:
            log.warning("tool %s: its answer is not the JSON it claims to be", tool.name)
            raise ToolError(f"{tool.name} answered with something that is not valid JSON.")
        for name, why in unfound_at(tool.set, text).items():
            log.warning("tool %s: set: %s: the path %r %s", tool.name, name, tool.set[name], why)
        for name, value in values_at(tool.set, text).items():
            self._variables[name] = redacted(value, self._secrets)  # read, an escape may show a key
        return text if len(text) <= MAX_RESULT_CHARS else text[: MAX_RESULT_CHARS - len(_CUT)] + _CUT


def _redirect(tool: HttpTool, request: ToolRequest, response: httpx.Response) -> ToolRequest | None:
    status = response.status_code
    if status not in (301, 302, 303, 307, 308):
        return None
    here = httpx.URL(request.url)
    there = here.join(response.headers.get("location", ""))
    if _origin(here) != _origin(there):
        raise _misconfigured(tool, f"it redirects to another host, {there.host}")
    if status in (307, 308) or request.method == "GET":
        return ToolRequest(request.method, str(there), request.headers, request.body)
    if status == 303:
        return ToolRequest("GET", str(there), request.headers, None)
    raise _misconfigured(tool, f"it redirects a {request.method} ({status}), which would be lost")


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


def _decoded(tool: HttpTool, response: httpx.Response, body: bytes) -> str:
    kind = response.headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
    textual = kind.startswith("text/") or any(word in kind for word in ("json", "xml", "form-urlencoded"))
    if not textual and body:
        raise ToolError(f"{tool.name} answered with something that is not text ({kind[:80]}).")
    try:
        return body.decode(response.charset_encoding or "utf-8", "replace")
    except LookupError:
        return body.decode("utf-8", "replace")


def _compact(text: str) -> str | None:
    """The JSON without white space, as text that can be sent on; None when it is none."""
    try:
        compact = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None
    # Half an emoji can be written in JSON, and in no request to the model.
    return compact.encode(errors="replace").decode()


def _failure(tool: HttpTool, status: int, text: str) -> ToolError:
    log.warning("tool %s: HTTP %d", tool.name, status)
    if status in (401, 403, 407):
        return ToolError(f"{tool.name} is not set up correctly (HTTP {status}): it cannot be used.")
    if status == 429:
        return ToolError(f"{tool.name} is used too often just now (HTTP 429).")
    if status >= 500:
        return ToolError(f"{tool.name} failed (HTTP {status}).")
    detail = f": {text[:_MAX_DETAIL]}" if text else "."
    return ToolError(f"{tool.name} refused this (HTTP {status}){detail}")


def _misconfigured(tool: HttpTool, why: str) -> ToolError:
    log.warning("tool %s: %s", tool.name, why)
    return ToolError(f"{tool.name} is not set up correctly: it cannot be used.")


async def _let_go(response: httpx.Response) -> None:
    try:
        async with asyncio.timeout(_LET_GO_S):
            await response.aclose()
    except (TimeoutError, httpx.HTTPError, OSError) as error:
        log.debug("a tool's answer not closed politely: %s", type(error).__name__)
