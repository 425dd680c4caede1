"""`POST /webhooks/telnyx`: verified on the raw body, handed on, acknowledged at once. Works nothing off."""

from __future__ import annotations

import logging
import time
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from backend.errors import RequestError, WebhookRejected
from backend.telnyx.webhooks import WebhookVerifier, parse_event
from backend.web.errors import error_response, responses
from backend.web.metrics import Metrics
from backend.web.ports import EventSink

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1_048_576
_NO_KEY = "This webhook is refused: TELNYX_PUBLIC_KEY is not set, so nobody can tell that it is from Telnyx."


class Acknowledged(BaseModel):
    """The event is ours now."""

    status: Literal["accepted", "duplicate"]


def webhooks_router(
    manager: EventSink, verifier: WebhookVerifier | None, metrics: Metrics | None = None
) -> APIRouter:
    """The carrier's door. `verifier` None: no public key is set, and every webhook is refused."""
    router = APIRouter(tags=["telnyx"])

    @router.post("/webhooks/telnyx", response_model=Acknowledged, responses=responses(400, 401, 413))
    async def telnyx_webhook(request: Request) -> Acknowledged | JSONResponse:
        """Telnyx's events, signed. 401: not from Telnyx, or too old; duplicates are acknowledged, too."""
        raw_body = await _read(request)
        event_type = "unread"
        try:
            _verify(verifier, raw_body, request)
            event = parse_event(raw_body)
            event_type = event.event_type
            outcome: Literal["accepted", "duplicate"]
            outcome = "accepted" if manager.accept_event(event) else "duplicate"
        except WebhookRejected as error:
            client = request.client.host if request.client else "somebody"
            log.warning("webhook from %s: %s", client, error)
            status = error.status or 401
            if metrics:
                metrics.webhook(event_type, "refused" if status == 401 else "malformed")
            return error_response(status, error.code or "webhook_refused", str(error))
        if metrics:
            metrics.webhook(event_type, outcome)
        return Acknowledged(status=outcome)

    return router


def _verify(verifier: WebhookVerifier | None, raw_body: bytes, request: Request) -> None:
    if verifier is None:
        raise WebhookRejected(_NO_KEY, status=401, code="webhook_refused")
    verifier.verify(
        raw_body,
        signature=request.headers.get("telnyx-signature-ed25519", ""),
        timestamp=request.headers.get("telnyx-timestamp", ""),
        now_s=time.time(),
    )


async def _read(request: Request) -> bytes:
    """The body as it came, of a bounded size: anybody can reach this door."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise RequestError(
                    f"A webhook has at most {MAX_BODY_BYTES} bytes.", status=413, code="too_large"
                )
    except ClientDisconnect as error:
        raise RequestError("The webhook broke off before its end.", code="incomplete") from error
    return bytes(body)
