"""Keeps what a call's tools did: name, arguments, how it went and how long it took. Results are not kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from backend.calls.ports import Clock, Toolbox
from backend.calls.talking.recorder import TurnRecorder
from backend.core.llm import ToolCall
from backend.core.records import ToolUse
from backend.errors import ToolError

_GIVEN_UP = "It was given up before it answered."
_FAILED = "It failed."
_MAX_ARGUMENTS = 8_000  # characters; of longer ones the beginning is kept
_MAX_UNREADABLE = 500


class LoggedToolbox:
    """A toolbox whose uses are recorded. Satisfies `Toolbox`."""

    def __init__(
        self, toolbox: Toolbox, recorder: TurnRecorder, *, clock: Clock, node_id: Callable[[], str]
    ) -> None:
        self._toolbox, self._recorder = toolbox, recorder
        self._clock, self._node_id = clock, node_id

    async def call(self, call: ToolCall) -> str:
        """As the toolbox does. Cancelled, it counts as given up: it may have been done all the same."""
        at_ms, node_id = self._clock(), self._node_id()
        problem: str | None = _GIVEN_UP
        try:
            result = await self._toolbox.call(call)
            problem = None
            return result
        except ToolError as error:
            problem = str(error)
            raise
        except Exception:
            problem = _FAILED  # a bug of ours, whose words may hold a key
            raise
        finally:
            self._recorder.add_tool(
                ToolUse(
                    index=self._recorder.tools,
                    name=call.name,
                    arguments=readable(call.arguments),
                    ok=problem is None,
                    at_ms=at_ms,
                    took_ms=self._clock() - at_ms,
                    node_id=node_id,
                    problem=problem.replace("\0", "") if problem else None,
                )
            )


def readable(arguments: str) -> Mapping[str, object]:
    """A language model's arguments as any database can keep them; what is no JSON object as `unreadable`."""
    try:
        value = json.loads(arguments or "{}")
        # Half an emoji and "not a number" can be written in JSON, and shown nowhere.
        plain = json.dumps(value, ensure_ascii=False, allow_nan=False).encode(errors="replace").decode()
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or len(plain) > _MAX_ARGUMENTS:
        return {"unreadable": arguments[:_MAX_UNREADABLE].encode(errors="replace").decode()}
    result: dict[str, object] = json.loads(plain)
    return result
