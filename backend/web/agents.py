"""The API's agents: look at them, check and write one. Only asks and shows; the files decide."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Response
from pydantic import BaseModel, Field

from backend.core.agent import Agent
from backend.core.agent_names import no_agent
from backend.errors import RequestError
from backend.web.auth import Guard
from backend.web.errors import responses
from backend.web.ports import AgentStore


class AgentSummary(BaseModel):
    """One agent in short."""

    id: str
    name: str
    description: str | None
    phone_numbers: list[str]
    language: str
    tts_provider: str
    nodes: int = Field(description="Nodes of its call flow.")


class AgentProblem(BaseModel):
    """What is wrong with a file; its last good version, if there is one, stays in use."""

    file: str
    field: str
    reason: str


class AgentList(BaseModel):
    """The agents in use, and what is wrong or odd about the files."""

    agents: list[AgentSummary]
    problems: list[AgentProblem]
    warnings: list[str]


def agents_router(agent_files: AgentStore, guard: Guard) -> APIRouter:
    """`/api/v1/agents`."""
    router = APIRouter(prefix="/api/v1/agents", tags=["agents"], dependencies=[Depends(guard)])
    writing = asyncio.Lock()
    put_responses = {201: {"model": Agent, "description": "It is new."}, **responses(401, 422)}

    @router.get("", responses=responses(401))
    async def list_agents() -> AgentList:
        """Every agent in use."""
        return AgentList(
            agents=[_summary(agent) for agent in agent_files.all()],
            problems=[
                AgentProblem(file=problem.file, field=problem.field, reason=problem.reason)
                for problem in agent_files.problems
            ],
            warnings=list(agent_files.warnings),
        )

    @router.get("/{agent_id}", response_model_exclude_unset=True, responses=responses(401, 404))
    async def get_agent(agent_id: str) -> Agent:
        """One agent as its file says it: what the file leaves out is left out here."""
        return known_agent(agent_files, agent_id)

    @router.put("/{agent_id}", response_model_exclude_unset=True, responses=put_responses)
    async def put_agent(
        agent_id: str, agent_json: Annotated[dict[str, Any], Body()], response: Response
    ) -> Agent:
        """Check an agent and write its file. Calls that begin from now on follow it; live ones do not.

        201: it is new. An agent that is broken is not written; the answer names the field and the reason.
        """
        told_id, found = agent_json.get("id"), agent_files.find(agent_id)
        meant = {agent_id.lower(), *([found.id.lower()] if found else [])}
        if isinstance(told_id, str) and told_id.lower() not in meant:
            raise RequestError(
                f"The address names agent {agent_id} and the agent says that its id is {told_id}; "
                "they must be the same.",
                status=422,
                code="id_mismatch",
            )
        async with writing:
            if agent_files.get(told_id if isinstance(told_id, str) else agent_id) is None:
                response.status_code = 201
            # On the loop, though it writes a small file: calls read the agents without a lock.
            return agent_files.put(agent_json)

    return router


def known_agent(agent_files: AgentStore, wanted: str) -> Agent:
    """The agent that goes by this id, name or file. RequestError names the nearest."""
    agent = agent_files.find(wanted)
    if agent is None:
        raise RequestError(no_agent(wanted, agent_files.all()), status=404, code="unknown_agent")
    return agent


def _summary(agent: Agent) -> AgentSummary:
    return AgentSummary(
        id=agent.id,
        name=agent.name,
        description=agent.description,
        phone_numbers=list(agent.phone_numbers),
        language=agent.language,
        tts_provider=agent.tts_provider,
        nodes=len(agent.call_flow.nodes),
    )
