"""The backend's error tree. Every message says what was wrong and, where one can, what to do.

BackendError
├── ConfigError             settings or files that cannot be used
│   └── AgentError          an agent file: names the file, the field and the reason
├── CarrierError            Telnyx refused or could not be reached (status, code)
│   ├── CallGone            the call has already ended; harmless on hang-up
│   └── WebhookRejected     unsigned, forged or stale webhook
├── SpeechError             a speech route failed (route, reason)
├── HearingError            speech-to-text failed (route, reason)
├── LlmError                the language model failed (reason)
├── ToolError               a tool failed; the sentence is for the language model
├── UnsupportedLeg          a telephone leg with a codec that is none of ours (core/media.py)
├── FlowError               a call flow cannot go on
├── StorageError            the database cannot be used
└── RequestError            an API request that cannot be served (HTTP status, code)
"""

from __future__ import annotations

from typing import Literal

SpeechFailure = Literal[
    "unreachable",  # no connection: wrong address, server down, TLS
    "unauthorized",  # the key is missing, wrong, or may not do this
    "quota",  # the vendor's credit is used up
    "unknown_voice",
    "not_found",  # the server answers, but not at this address, or not with this model
    "slow",  # sound comes slower than it plays
    "noise",  # what comes is no speech
    "rate_limited",  # too many requests for this key or plan
    "bad_request",  # our own input: another server of the same kind would refuse it, too
    "busy",  # too many requests for this server
    "out_of_memory",
    "not_ready",  # the model is still loading
    "generation_failed",  # the server's own failure
    "closed",  # the connection ended in the middle
    "no_audio",  # everything went well, but for the sound
    "no_words",  # speech-to-text found none where another found some
    "timeout",
    "protocol",  # what came is not what was agreed
]

LlmFailure = Literal[
    "timeout",  # no first word, or no end, within the deadline
    "unauthorized",  # the key is missing, wrong, or may not use this model
    "rate_limited",  # too many requests for this key or plan
    "quota",  # the account's credit is used up
    "bad_request",  # refused for what it says: too long a conversation, a broken tool
    "not_found",  # the server answers, but has no such model
    "unreachable",  # no connection, or it ended in the middle
    "server",  # the server's own failure
    "protocol",  # what came is not what was agreed
    "left_alone",  # not asked: it has failed too often just now
]


class BackendError(Exception):
    """Root of everything the backend raises on purpose."""


class ConfigError(BackendError):
    """A setting or a file cannot be used; the message says which and how to mend it."""


class AgentError(ConfigError):
    """An agent file is broken."""

    def __init__(self, file: str, field: str, reason: str) -> None:
        super().__init__(f"{file}: {field}: {reason}" if field else f"{file}: {reason}")
        self.file, self.field, self.reason = file, field, reason


class CarrierError(BackendError):
    """The carrier refused a command or could not be reached."""

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class CallGone(CarrierError):
    """The call has already ended (Telnyx 90018, 404)."""


class WebhookRejected(CarrierError):
    """A webhook that is unsigned, forged or stale."""


class SpeechError(BackendError):
    """A speech route failed. `reason` is machine-readable; the message is for an operator."""

    def __init__(self, message: str, *, route: str, reason: SpeechFailure) -> None:
        super().__init__(message)
        self.route = route
        self.reason: SpeechFailure = reason


class HearingError(BackendError):
    """Speech-to-text failed. `reason` is machine-readable; the message is for an operator."""

    def __init__(
        self, message: str, *, route: str = "local", reason: SpeechFailure = "generation_failed"
    ) -> None:
        super().__init__(message)
        self.route = route
        self.reason: SpeechFailure = reason


class LlmError(BackendError):
    """The language model failed. `reason` is machine-readable; the message is for an operator."""

    def __init__(self, message: str, *, reason: LlmFailure) -> None:
        super().__init__(message)
        self.reason: LlmFailure = reason


class ToolError(BackendError):
    """A tool failed. The message is a sentence for the language model and never holds a secret."""


class FlowError(BackendError):
    """A call flow cannot go on."""


class StorageError(BackendError):
    """The database cannot be used."""


class RequestError(BackendError):
    """An API request that cannot be served; `status` is the HTTP status, `code` a stable word."""

    def __init__(self, message: str, *, status: int = 400, code: str = "bad_request") -> None:
        super().__init__(message)
        self.status, self.code = status, code
