"""What Telnyx answers when it does not do what it was told, as errors with a sentence for an operator.

The one place that knows Telnyx's error codes. Refuses to know the SDK and the network.
"""

from __future__ import annotations

from collections.abc import Mapping

from backend.errors import CallGone, CarrierError

# developers.telnyx.com/api/errors. Each sentence says what happened and what to do.
_BY_CODE: dict[str, str] = {
    "10011": "too many commands at once (rate limit). Place fewer calls a second, or ask Telnyx for more.",
    "90034": "the call has not been answered yet. Answer it first, or wait for `call.answered`.",
    "90041": "the account's limit of simultaneous calls is reached. Wait, or raise the channel limit.",
    "90042": "the connection's limit of simultaneous calls is reached. Wait, or raise its channel limit.",
    "90043": "the limit of simultaneous calls for outbound traffic is reached. Wait, or raise it.",
    "90045": "media streaming is already in use on this call. Stop the running stream first.",
    "90046": "media streaming could not be started. Check that PUBLIC_URL reaches this server from the"
    " internet and speaks wss with a valid certificate.",
    "90048": "media is not being streamed on this call, so there is nothing to stop or change.",
    "90102": "this is an outbound call; only the called party can answer it.",
}
_GONE = "the call has already ended."
_UNKNOWN_CALL = "Telnyx does not know this call: it ended some time ago or belongs to another account."
_BAD_KEY = "the API key is not accepted. Set TELNYX_API_KEY to a current V2 key from portal.telnyx.com."
_FORBIDDEN = "the API key may not do this. Check the key's and the outbound voice profile's permissions."
_UNKNOWN_CONNECTION = "there is no such connection. Set TELNYX_CONNECTION_ID to a Voice API application's id."


def refusal(doing: str, status: int, body: object, *, on_call: bool) -> CarrierError:
    """The error for an HTTP status and body that refused a command.

    `doing` completes "Telnyx did not …", such as "answer the call"; `on_call` tells a command on an existing
    call, where 404 means that the call is gone, from one that makes a call or asks about the account.
    """
    code, detail = _first_error(body)
    reason = _BY_CODE.get(code or "")
    if code == "90018":
        return CallGone(f"Telnyx did not {doing}: {_GONE}", status=status, code=code)
    if reason is None:
        if status == 404 and on_call:
            return CallGone(f"Telnyx did not {doing}: {_UNKNOWN_CALL}", status=status, code=code)
        reason = _by_status(status, detail)
    return CarrierError(f"Telnyx did not {doing}: {reason}{_where(status, code)}", status=status, code=code)


def unreachable(doing: str, base_url: str, *, cause: str) -> CarrierError:
    """The error for a carrier that could not be reached or did not answer; `cause` is a clause."""
    return CarrierError(
        f"Telnyx did not {doing}: {base_url} {cause}. Check the network, and TELNYX_BASE_URL if it is set.",
        code="unreachable",
    )


def _by_status(status: int, detail: str) -> str:
    said = f" It said: {detail}" if detail else ""
    if status == 401:
        return _BAD_KEY
    if status == 403:
        return _FORBIDDEN + said
    if status == 404:
        return _UNKNOWN_CONNECTION + said
    if status == 429:
        return _BY_CODE["10011"]
    if status >= 500:
        return "Telnyx has a fault of its own; try again, and see status.telnyx.com." + said
    return detail or "no reason was given."


def _where(status: int, code: str | None) -> str:
    return f" (HTTP {status}, Telnyx code {code})" if code else f" (HTTP {status})"


def _first_error(body: object) -> tuple[str | None, str]:
    """Telnyx's code and its own words out of `{"errors": [{"code", "title", "detail"}]}`, however broken."""
    errors = body.get("errors") if isinstance(body, Mapping) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, Mapping):
        return None, ""
    words = [str(first[name]).strip().rstrip(".") for name in ("title", "detail") if first.get(name)]
    detail = ": ".join(dict.fromkeys(words))
    code = first.get("code")
    return (str(code) if code is not None else None), f"{detail}." if detail else ""
