"""A chat on the terminal: the agent's words with node, wait and voice, tools, keys, how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from backend.core.records import CallRecord, TurnRecord
from backend.evals.thinking import ToolUse


class ChatView:
    """Prints as it happens, a line or two each."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tools_at_work = 0
        self._held: list[str] = []  # warnings that belong beneath the line of a tool at work
        self.voiced = True
        """Whether a voice speaks, whose name and speed are worth telling."""

    def entered(self, node_id: str) -> None:
        """The call is at another node, whether or not that says something."""
        self._console.print(f"       [green]→ {escape(node_id)}[/]")

    def turn(self, turn: TurnRecord) -> None:
        """A turn is over: the agent's is shown, the caller's only where it was understood otherwise."""
        if turn.role == "caller":
            return
        words = escape(turn.heard_text) or "[dim](nothing was heard)[/]"
        cut = " [red]— interrupted[/]" if turn.interrupted else ""
        self._console.print(f"[bold blue]agent[/]  {words}{cut}", soft_wrap=True)
        if about := _about(turn, voiced=self.voiced):
            self._console.print(f"       [dim]{escape(about)}[/]")

    def tool_begins(self) -> None:
        """A tool is at work: what is warned of until it is done is shown beneath its line."""
        self._tools_at_work += 1

    def tool(self, use: ToolUse) -> None:
        """A tool was called."""
        self._tools_at_work -= 1
        style = "red" if use.failed else "magenta"
        self._console.print(
            f"       [{style}]{escape(use.line)}[/] [dim]{use.took_ms:.0f} ms[/]", soft_wrap=True
        )
        while self._held and not self._tools_at_work:
            self._warn(self._held.pop(0))

    def line(self, kind: str, data: Mapping[str, Any]) -> None:
        """Something happened on the line."""
        match kind:
            case "dtmf" if data["by"] == "agent":
                self._console.print(f"       the agent presses {escape(str(data['digit']))}")
            case "transfer":
                self._console.print(f"       [bold green]transferred to {escape(str(data['to']))}[/]")

    def told(self, text: str) -> None:
        """A word to who types."""
        self._console.print(f"[dim]{escape(text)}[/]", soft_wrap=True)

    def warned(self, text: str) -> None:
        """The agent goes without something, or a person should know."""
        if self._tools_at_work:
            self._held.append(text)
        else:
            self._warn(text)

    def _warn(self, text: str) -> None:
        self._console.print(f"[yellow]![/] {escape(text)}", soft_wrap=True)

    def ended(self, call: CallRecord, given: frozenset[str]) -> None:
        """The call is over."""
        by = {"callee": "the agent", "caller": "you"}.get(
            call.hangup_source or "", call.hangup_source or "nobody"
        )
        if call.direction == "outbound":
            by = {"the agent": "you", "you": "the agent"}.get(by, by)
        self._console.print(f"       [dim]{by} hung up[/]")
        collected = [f"{name}={value!r}" for name, value in call.variables.items() if name not in given]
        if collected:
            self._console.print(f"       collected {escape(', '.join(collected))}", soft_wrap=True)
        if call.error:
            self._console.print(f"       [bold red]{escape(call.error)}[/]", soft_wrap=True)


def _about(turn: TurnRecord, *, voiced: bool) -> str:
    timings = turn.timings
    parts: list[str] = []
    if timings.caller_speech_ended_ms is not None and timings.first_frame_ms is not None:
        parts.append(f"{timings.first_frame_ms - timings.caller_speech_ended_ms:.0f} ms after you")
    if not voiced:
        return " · ".join(parts)
    if timings.text_ready_ms is not None and timings.first_chunk_ms is not None:
        parts.append(f"voice {timings.first_chunk_ms - timings.text_ready_ms:.0f} ms")
    if turn.route:
        parts.append(turn.route)
    return " · ".join(parts)
