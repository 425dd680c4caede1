"""The TTS of LiveKit Agents' OpenAI plugin.

Run by the environment that has it: a task as JSON on stdin, answers on stdout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from client_script import kept, run
from livekit import agents
from livekit.plugins import openai


async def answer(task: dict[str, Any], case: dict[str, Any], sound: Path) -> dict[str, Any]:
    tts = openai.TTS(base_url=task["base_url"], api_key=task["api_key"], **case["options"])
    try:
        if case.get("prewarm"):
            tts.prewarm()
        once = agents.APIConnectOptions(max_retry=0)
        async with tts.synthesize(case["text"], conn_options=once) as stream:
            frames = [event.frame async for event in stream]
        if any((frame.sample_rate, frame.num_channels) != (24000, 1) for frame in frames):
            return {"message": "frames that are not 24 kHz, mono"}
        return kept(sound, b"".join(bytes(frame.data) for frame in frames))
    except agents.APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        return {"status": error.status_code, "message": body.get("message") or error.message}
    except agents.APIError as error:  # no status: the sound did not come, or was no sound
        return {"message": error.message}
    finally:
        await tts.aclose()


run("livekit-plugins-openai", answer)
