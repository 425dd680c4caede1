"""A call's language model: what it was told so far, requests made ahead of time, and what they cost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from backend.calls.ports import LanguageModel, LlmOutcome, Toolbox
from backend.calls.talking.llm_turn import LlmTurn, Spent
from backend.core.agent import Agent
from backend.core.brain import prompt_messages
from backend.core.flow import Flow
from backend.core.history import History
from backend.core.llm import ToolCall
from backend.core.steps import Ask
from backend.errors import FlowError

log = logging.getLogger(__name__)

MAX_WASTED = 20  # turns begun ahead and thrown away; a call that wastes more goes on without
_CLOSING_S = 2.0


class Thinker:
    """Asks the model of one call. `aclose` it when the call is over."""

    def __init__(
        self,
        agent: Agent,
        model: LanguageModel,
        toolbox: Toolbox | None,
        *,
        count: Callable[[LlmOutcome, int, int], None] = lambda outcome, prompt, completion: None,
        on_tool: Callable[[str, ToolCall, str], None] = lambda node_id, call, result: None,
    ) -> None:
        """`count` is told of each turn: what became of it, prompt and completion tokens. `on_tool`: of each
        tool used, with its result."""
        self.history = History()
        self.turns = self.wasted = self.begun_ahead = 0
        self.tokens = self.wasted_tokens = 0
        self._agent, self._model, self._toolbox = agent, model, toolbox
        self._count, self._on_tool = count, on_tool
        self._ahead: LlmTurn | None = None
        self._spent: Spent = {}
        self._closing: set[asyncio.Task[None]] = set()

    def begin_ahead(self, flow: Flow, text: str) -> None:
        """The caller has probably said all of `text`: if the model will be asked then, ask it now."""
        self.drop()
        if not self._agent.llm.preemptive or self.wasted >= MAX_WASTED:
            return
        try:
            ask = flow.fork().heard(text).ask
        except FlowError:
            return  # it will be told when it happens
        if ask is not None:
            self.begun_ahead += 1
            self._ahead = self._begin(ask, then_said=text)

    def drop(self) -> None:
        """The caller goes on, or did something else: what was begun ahead is of no use."""
        turn, self._ahead = self._ahead, None
        if turn is not None:
            self.wasted += 1
            task = asyncio.create_task(self._discard(turn), name="discard reply")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def turn(self, ask: Ask, *, again: bool = False) -> LlmTurn:
        """Ask the model, or take what was asked ahead. The caller's last words are in the history already.

        `again`: the same as the turn before, with more words: tools it used are not used a second time.
        """
        if not again:
            self._spent = {}
        ahead = self._ahead
        if ahead is not None and ahead.ask.like(ask):
            self._ahead, self._spent = None, ahead.spent
            return ahead
        self.drop()
        return self._begin(ask, then_said=None, spent=self._spent)

    def done(self, turn: LlmTurn) -> None:
        """A turn that `turn` gave is over, and closed."""
        self.turns += 1
        self.tokens += sum(turn.usage)
        self._count("failed" if turn.problem is not None else "used", *turn.usage)

    async def aclose(self) -> None:
        """Cancel what is under way, within two seconds."""
        self.drop()
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSING_S)
        if self.turns or self.wasted:
            log.info(
                "language model: %d turns, %d tokens; begun ahead %d, of these wasted %d, about %d tokens",
                self.turns,
                self.tokens,
                self.begun_ahead,
                self.wasted,
                self.wasted_tokens,
            )

    def _begin(self, ask: Ask, *, then_said: str | None, spent: Spent | None = None) -> LlmTurn:
        messages = prompt_messages(self._agent, ask, self.history.messages(then_said=then_said))
        return LlmTurn(
            self._agent,
            ask,
            messages,
            self._model,
            self._toolbox,
            on_tools=lambda calls, results: self._used(ask.node_id, calls, results),
            spent=spent,
        )

    def _used(self, node_id: str, calls: Sequence[ToolCall], results: Sequence[str]) -> None:
        self.history.tools(calls, results)
        for call, result in zip(calls, results, strict=True):
            self._on_tool(node_id, call, result)

    async def _discard(self, turn: LlmTurn) -> None:
        await turn.aclose()
        self.wasted_tokens += sum(turn.usage)
        self._count("wasted", *turn.usage)
