"""What the openai SDK raises → LlmError, in one place. Nothing a server says is passed on unredacted."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError, OpenAIError

from backend.errors import LlmError, LlmFailure

_BY_STATUS: dict[int, LlmFailure] = {
    401: "unauthorized", 402: "quota", 403: "unauthorized", 408: "timeout", 429: "rate_limited",
}  # fmt: skip
_BY_CODE: dict[str, LlmFailure] = {
    "insufficient_quota": "quota",
    "billing_not_active": "quota",
    "rate_limit_exceeded": "rate_limited",
    "invalid_api_key": "unauthorized",
    "context_length_exceeded": "bad_request",
    "model_not_found": "not_found",
    "invalid_request_error": "bad_request",
}
_ADVICE: dict[LlmFailure, str] = {
    "timeout": "it gave up waiting",
    "unauthorized": "the key was refused, or may not use this model",
    "rate_limited": "more requests or tokens than the account's plan allows",
    "quota": "the account is out of credit",
    "bad_request": "it refused the request",
    "not_found": "it has no such model",
    "unreachable": "no such API there: check OPENAI_BASE_URL or llm.base_url; it usually ends in /v1",
    "server": "it failed",
    "protocol": "what came is no chat completion",
}
_KEY_LIKE = re.compile(r"\b(?:sk|gsk|xai)-[A-Za-z0-9_*.-]{4,}|(?<=Bearer )\S+")
_SHOWN = 300


def llm_error(error: Exception, where: str, secrets: Sequence[str] = ()) -> LlmError:
    """What `error` means. `where` opens the sentence; `secrets` are cut out of whatever the server said."""
    reason, what = _meaning(error)
    return LlmError(f"{where}: {_redacted(what, secrets)}", reason=reason)


def _meaning(error: Exception) -> tuple[LlmFailure, str]:
    match error:
        case LlmError():
            return error.reason, str(error)
        case TimeoutError() | APITimeoutError():
            return "timeout", str(error) or "no answer in time"
        case APIConnectionError():
            cause = error.__cause__
            return "unreachable", f"no connection, or it was lost: {cause or error}"
        case APIStatusError():
            return _told(error, error.status_code)
        case APIError():  # an error event in the middle of the stream
            return _told(error, None)
        case json.JSONDecodeError() | UnicodeDecodeError():
            return "protocol", f"what came is not JSON: {error}"
        case OpenAIError() | ValueError() | TypeError() | LookupError() | AttributeError():
            # The SDK builds its objects unchecked, and stumbles over what is no chat completion.
            return "protocol", f"what came is no chat completion: {error}"
    return "unreachable", f"the connection was lost: {error}"


def _told(error: APIError, status: int | None) -> tuple[LlmFailure, str]:
    reason = _BY_CODE.get(error.code or "") or _BY_CODE.get(error.type or "")
    # A status says more than a type: vendors name every 4xx `invalid_request_error`.
    if status is not None and reason in (None, "bad_request"):
        reason = _BY_STATUS.get(status, "bad_request" if 400 <= status < 500 else "server")
        if status == 404:
            # Without either: a web server's own page, not the API's answer.
            reason = "not_found" if error.code or error.type else "unreachable"
    reason = reason or "server"
    http = f" (HTTP {status})" if status is not None else ""
    body = error.body if isinstance(error.body, dict) else {}
    said = " ".join(str(body.get("message") or error.message).split())
    return reason, f"{_ADVICE[reason]}{http}: {said}"


def _redacted(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[key]")
    text = _KEY_LIKE.sub("[key]", text)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
