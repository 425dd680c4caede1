"""The API's calls: place one, look at them, act on a live one. Only checks, asks and shows."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from backend.core.records import CallRecord, CallState, Direction
from backend.errors import RequestError
from backend.web import views
from backend.web.agents import known_agent
from backend.web.auth import Guard
from backend.web.checks import check_destination, check_digits, check_number, check_words
from backend.web.errors import responses
from backend.web.ports import AgentStore, CallActions, CallReader

_VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]
_VariableValue = Annotated[str, StringConstraints(max_length=4000)]
_Number = Annotated[str, AfterValidator(check_number)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class PlaceCall(_Body):
    """A call to place."""

    agent_id: str = Field(
        min_length=1, max_length=128, description="Who calls: an agent's id, name, slug of its name, or file."
    )
    to: _Number = Field(description="Whom to call.", examples=["+15551234567"])
    from_number: _Number | None = Field(
        None, alias="from", description="The caller id; left out: TELNYX_FROM_NUMBER, or the agent's number."
    )
    variables: dict[_VariableName, _VariableValue] = Field(
        default_factory=dict, max_length=100, description="For {{name}} in the agent's texts."
    )


class TransferCall(_Body):
    """Where a call is to go."""

    to: Annotated[str, AfterValidator(check_destination)] = Field(
        examples=["+15551234567", "sip:desk@example.com"]
    )


class PressKeys(_Body):
    """Keys to press."""

    digits: Annotated[str, AfterValidator(check_digits)] = Field(
        description="0-9 A-D * #; `w` waits half a second, `W` a second.", examples=["1w2#"]
    )


class SayText(_Body):
    """What the agent is to say."""

    text: Annotated[str, AfterValidator(check_words)] = Field(examples=["One moment, please."])
    interrupt: bool = Field(False, description="At once, cutting off what is being said; else after it.")


class Accepted(BaseModel):
    """An action that is being carried out."""

    id: str = Field(description="The call, by the id it was asked for.")
    action: Literal["hangup", "transfer", "dtmf", "say"]
    status: Literal["accepted"] = "accepted"


def calls_router(manager: CallActions, store: CallReader, agent_files: AgentStore, guard: Guard) -> APIRouter:
    """`/api/v1/calls` and what can be done to one."""
    router = APIRouter(prefix="/api/v1/calls", tags=["calls"], dependencies=[Depends(guard)])
    acting = responses(401, 404, 409, 422, 502)

    @router.post("", status_code=202, responses=responses(401, 404, 409, 422, 503))
    async def place_call(
        body: PlaceCall,
        response: Response,
        idempotency_key: Annotated[
            str | None,
            Header(min_length=1, max_length=255, description="The same key again gives the same call."),
        ] = None,
    ) -> views.CallView:
        """Place a call. It is queued and dialled after the answer; follow it by its id."""
        body.agent_id = known_agent(agent_files, body.agent_id).id
        call = await manager.place_call(
            agent_id=body.agent_id,
            to=body.to,
            from_number=body.from_number,
            variables=body.variables,
            idempotency_key=idempotency_key,
        )
        _check_same_request(body, call)
        response.headers["Location"] = f"/api/v1/calls/{call.id}"
        return views.view(call)

    @router.get("", responses=responses(400, 401, 422, 503))
    async def list_calls(
        agent_id: Annotated[str | None, Query(max_length=128)] = None,
        state: CallState | None = None,
        direction: Direction | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        before: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    ) -> views.CallPage:
        """Calls, newest first, without their turns."""
        # One more than asked for tells whether there is a next page.
        found = await store.list(
            agent_id=agent_id, state=state, direction=direction, limit=limit + 1, before=before
        )
        page = [views.summary(call) for call in found[:limit]]
        return views.CallPage(calls=page, next=page[-1].id if len(found) > limit else None)

    @router.get("/{any_id}", responses=responses(401, 404, 503))
    async def get_call(any_id: str) -> views.CallView:
        """One call with its turns; `any_id` is ours or Telnyx's call_control_id."""
        call = await store.get(any_id)
        if call is None:
            raise RequestError(f"There is no call {any_id}.", status=404, code="unknown_call")
        return views.view(call)

    @router.post("/{any_id}/hangup", status_code=202, responses=acting)
    async def hangup(any_id: str) -> Accepted:
        """End a live call."""
        await manager.hangup(any_id)
        return Accepted(id=any_id, action="hangup")

    @router.post("/{any_id}/transfer", status_code=202, responses=acting)
    async def transfer(any_id: str, body: TransferCall) -> Accepted:
        """Hand a live call over to another number or sip: address."""
        await manager.transfer(any_id, body.to)
        return Accepted(id=any_id, action="transfer")

    @router.post("/{any_id}/dtmf", status_code=202, responses=acting)
    async def dtmf(any_id: str, body: PressKeys) -> Accepted:
        """Press keys towards the other party."""
        await manager.send_dtmf(any_id, body.digits)
        return Accepted(id=any_id, action="dtmf")

    @router.post("/{any_id}/say", status_code=202, responses=acting)
    async def say(any_id: str, body: SayText) -> Accepted:
        """Have the agent say something."""
        await manager.say(any_id, body.text, interrupt=body.interrupt)
        return Accepted(id=any_id, action="say")

    return router


def _check_same_request(body: PlaceCall, call: CallRecord) -> None:
    """A key that was used for another call must not pass one call off as the other."""
    same = call.to_number == body.to and call.agent_id.lower() == body.agent_id.lower()
    if not same or (body.from_number is not None and call.from_number != body.from_number):
        raise RequestError(
            f"This Idempotency-Key was used for another call ({call.id}); use a new key for every call.",
            status=409,
            code="idempotency_key_reused",
        )
