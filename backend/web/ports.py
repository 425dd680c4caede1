"""What the routes need of the rest, as protocols: the live calls, the agents' files, the carrier's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from backend.core.agent import Agent
from backend.core.health import RouteHealth
from backend.core.records import CallRecord
from backend.errors import AgentError
from backend.telnyx.webhooks import TelnyxEvent


class EventSink(Protocol):
    """Takes carrier events. See `backend.calls.manager`."""

    def accept_event(self, event: TelnyxEvent) -> bool:
        """Take a verified event at once and work on it later; False for a duplicate."""


class CallActions(Protocol):
    """Begins calls and acts on live ones, raising RequestError. See `backend.calls.manager`."""

    async def place_call(
        self,
        *,
        agent_id: str,
        to: str,
        from_number: str | None,
        variables: Mapping[str, str],
        idempotency_key: str | None,
    ) -> CallRecord: ...

    async def hangup(self, any_id: str) -> None: ...

    async def transfer(self, any_id: str, to: str) -> None: ...

    async def send_dtmf(self, any_id: str, digits: str) -> None: ...

    async def say(self, any_id: str, text: str, *, interrupt: bool) -> None: ...


class LiveCount(Protocol):
    """How many calls are under way. See `backend.calls.manager`."""

    @property
    def live_calls(self) -> int: ...


class SpeechState(Protocol):
    """How the voices do. See `backend.speech_routes`."""

    async def health(self) -> Sequence[RouteHealth]: ...


class CallReader(Protocol):
    """Calls that were kept. See `backend.storage.calls`."""

    async def get(self, any_id: str) -> CallRecord | None: ...

    async def list(
        self,
        *,
        agent_id: str | None = None,
        state: Any = None,
        direction: Any = None,
        limit: int = 50,
        before: str | None = None,
    ) -> Sequence[CallRecord]: ...


class Pingable(Protocol):
    """A database that can be asked whether it answers; raises StorageError."""

    async def ping(self) -> None: ...


class Checkable(Protocol):
    """A carrier that can be asked whether it takes our key; raises CarrierError."""

    async def check(self) -> None: ...


class AgentStore(Protocol):
    """The agents' files. See `backend.storage.agent_files`."""

    @property
    def problems(self) -> Sequence[AgentError]: ...

    @property
    def warnings(self) -> Sequence[str]: ...

    def get(self, id: str) -> Agent | None: ...

    def find(self, wanted: str) -> Agent | None: ...

    def all(self) -> Sequence[Agent]: ...

    def put(self, agent_json: Mapping[str, Any]) -> Agent: ...
