"""Refusals as Telnyx words them: an HTTP status and `{"errors": [{"code", "title", "detail"}]}`."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """A command the carrier does not carry out."""

    def __init__(
        self, status: int, code: str, title: str, detail: str, *, pointer: str | None = None
    ) -> None:
        super().__init__(f"{code} {title}: {detail}")
        self.status, self.code = status, code
        self._error: dict[str, Any] = {"code": code, "title": title, "detail": detail}
        if pointer is not None:
            self._error["source"] = {"pointer": pointer}

    def to_json(self) -> dict[str, Any]:
        return {"errors": [self._error]}


def unauthorized() -> Refusal:
    return Refusal(401, "10009", "Authentication failed", "The bearer key is missing or wrong.")


def unknown_call(call_control_id: str) -> Refusal:
    return Refusal(404, "10005", "Resource not found", f"There is no call {call_control_id!r}.")


def sound_given_up() -> Refusal:
    return Refusal(
        410,
        "10005",
        "Resource not found",
        "The sound of this call was given up for that of newer ones; fetch it sooner, or use --out.",
    )


def already_ended() -> Refusal:
    return Refusal(
        422, "90018", "Call has already ended", "This call is no longer active and can't receive commands."
    )


def not_answered() -> Refusal:
    return Refusal(
        422, "90034", "Call not answered yet", "This call can't receive this command before it is answered."
    )


def streaming_in_use() -> Refusal:
    return Refusal(422, "90045", "Media streaming in use", "This call is already streaming its media.")


def not_streaming() -> Refusal:
    return Refusal(422, "90048", "Media streaming not started", "This call does not stream its media.")


def answer_on_outbound() -> Refusal:
    return Refusal(
        422,
        "90102",
        "Invalid command for an outbound call",
        "An outbound call is answered by the other party.",
    )


def bad_request(detail: str, *, pointer: str | None = None) -> Refusal:
    return Refusal(422, "10015", "Bad Request", detail, pointer=pointer)


def missing(field: str) -> Refusal:
    return Refusal(422, "10004", "Missing required parameter", f"{field!r} is required.", pointer=f"/{field}")


def not_e164(field: str, value: object) -> Refusal:
    return Refusal(
        422,
        "10016",
        "Phone number must be in +E.164 format",
        f"{field!r} must be a number like +13125550100 or a SIP URI, not {value!r}.",
        pointer=f"/{field}",
    )
