"""A message said whole, from its start to its end on one line, as it must be on an answering machine.

Refuses to know who it is for, and what becomes of a call whose message is not whole.
"""

from __future__ import annotations

import asyncio

from backend.calls.speaking.speaker import Speaker
from backend.calls.talking.conversation import Conversation

_TRIES = 3


class LineWatch:
    """Whether there is a line, for whoever must not speak into the void."""

    def __init__(self) -> None:
        self.up, self.down = asyncio.Event(), asyncio.Event()
        self.up.set()

    def lost(self) -> None:
        """It is gone."""
        self.up.clear()
        self.down.set()

    def restored(self) -> None:
        """It is there again."""
        self.down.clear()
        self.up.set()


async def say_whole(text: str, conversation: Conversation, speaker: Speaker, line: LineWatch) -> bool:
    """Say `text`, on another line again from its start when the line is lost in the middle of it.

    False when no line lasted for all of it. Raises SpeechError.
    """
    for _ in range(_TRIES):
        await line.up.wait()
        saying = asyncio.create_task(conversation.say_last(lambda: speaker.say(text)), name="message")
        lost = asyncio.create_task(line.down.wait(), name="line lost")
        try:
            await asyncio.wait([saying, lost], return_when=asyncio.FIRST_COMPLETED)
            if not lost.done():
                await saying
                return True
            await speaker.interrupt()
            await saying
        finally:
            lost.cancel()
            saying.cancel()
            await asyncio.wait([saying])  # what was heard of it is on record then
            if not saying.cancelled():
                saying.exception()  # raised above already, unless we were cancelled ourselves
    return False
