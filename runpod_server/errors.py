"""The speech server's error tree. Every message says what was wrong and, where one can, what to do.

ServerError
├── StartError              the server cannot start; the message says how to mend it
│   ├── PortUnavailable     the address is taken or forbidden
│   └── EngineUnavailable   the chosen engine cannot run here
└── SpeechError             a request that cannot be served: `code` on the wire, `http_status` over REST
    ├── BadRequest          bad_request: the client's mistake; `field` names it
    ├── Busy                busy: no slot and no room to wait
    ├── NotReady            not_ready: the model is still loading
    ├── OutOfMemory         out_of_memory
    └── GenerationFailed    generation_failed
"""

from __future__ import annotations

from typing import ClassVar


class ServerError(Exception):
    """Root of everything this package raises on purpose."""


class StartError(ServerError):
    """The server cannot start."""


class PortUnavailable(StartError):
    """The address to listen on is taken, forbidden or not ours."""


class EngineUnavailable(StartError):
    """The chosen engine cannot run on this machine or in this version."""


class SpeechError(ServerError):
    """A request that cannot be served. `code` is the exact word of the wire."""

    code: ClassVar[str] = "generation_failed"
    http_status: ClassVar[int] = 500


class BadRequest(SpeechError):
    """The client's mistake. `request_id` is the client's own, where the message was readable enough."""

    code = "bad_request"
    http_status = 400

    def __init__(self, message: str, *, field: str | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.field, self.request_id = field, request_id


class Busy(SpeechError):
    """Every slot is taken and the queue is full; the same request may succeed a little later."""

    code = "busy"
    http_status = 503


class NotReady(SpeechError):
    """The model is still loading."""

    code = "not_ready"
    http_status = 503


class OutOfMemory(SpeechError):
    """The machine ran out of memory on this request; the others go on."""

    code = "out_of_memory"
    http_status = 503


class GenerationFailed(SpeechError):
    """The model failed on this request; the log has the reason."""
