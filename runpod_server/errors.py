"""The speech server's error tree. Every message says what was wrong and, where one can, what to do.

ServerError
├── StartError              the server cannot start; the message says how to mend it
│   ├── PortUnavailable     the address is taken or forbidden
│   └── EngineUnavailable   the chosen engine cannot run here
├── ClientError             `sesame-server say` got no speech; the message says how to mend it
│   └── Declined            the server answered with an error; `code` is its word for it
├── BenchError              `sesame-server bench` cannot measure; the message says what to do
└── SpeechError             a request that cannot be served: `code` on the wire, `http_status` over REST
    ├── BadRequest          bad_request: the client's mistake; `field` names it
    ├── Busy                busy: no slot and no room to wait
    ├── NotReady            not_ready: the model is still loading
    ├── OutOfMemory         out_of_memory
    ├── GenerationFailed    generation_failed
    ├── VoiceNotFound       not_found: no voice of that name
    ├── VoiceConflict       conflict: the voice's name or speaker is taken
    └── VoicesUnavailable   voices_unavailable: there is no folder for voices, or it cannot be used
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


class ClientError(ServerError):
    """A speech server that was asked for speech could not be reached, or gave none."""


class Declined(ClientError):
    """A speech server answered a request with an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"the server answers {code}: {message}")
        self.code = code


class BenchError(ServerError):
    """A benchmark was asked for what cannot be measured."""


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


class VoiceNotFound(SpeechError):
    """There is no voice of that name."""

    code = "not_found"
    http_status = 404


class VoiceConflict(SpeechError):
    """A voice that cannot be kept beside those there are."""

    code = "conflict"
    http_status = 409


class VoicesUnavailable(SpeechError):
    """Voices cannot be kept here: no VOICES_DIR, a full disk."""

    code = "voices_unavailable"
    http_status = 507
