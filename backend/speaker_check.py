"""Asks the speech servers that are set up whether the speakers of the agents have a voice there."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from backend.core.agent import Agent
from backend.core.agent_speakers import speakers_asked_for, voiceless_speakers
from backend.core.urls import plain_url
from backend.errors import SpeechError
from backend.settings import Settings, secret_value
from backend.tts.sesame_health import SesameHealth

DEADLINE_S = 2.0


@dataclass(frozen=True, slots=True)
class Told:
    """A sentence; `calm`: nothing is wrong with it, as where the server of this machine is not running."""

    sentence: str
    calm: bool = False


async def speaker_warnings(agents: Iterable[Agent], settings: Settings) -> list[Told]:
    """What there is to say of it, server by server; also which server could not be asked, and why.

    Asks no server that SESAME_SELF_HOSTED_URL does not name: where it is not set, none is asked.
    """
    asked = speakers_asked_for(agents)
    own = settings.sesame_enabled and settings.sesame_self_hosted
    if not asked or not own or "sesame_self_hosted_url" not in settings.model_fields_set:
        return []
    health = SesameHealth(api_key=secret_value(settings.sesame_api_key), timeout_s=DEADLINE_S)
    try:
        told = await asyncio.gather(*(_asked_at(url, asked, health) for url in settings.sesame_server_urls))
    finally:
        await health.aclose()
    return [sentence for sentences in told for sentence in sentences]


async def _asked_at(url: str, asked: dict[int, list[str]], health: SesameHealth) -> list[Told]:
    server = plain_url(url)
    try:
        async with asyncio.timeout(DEADLINE_S):
            report = await health.look(url)
            return [Told(sentence) for sentence in voiceless_speakers(asked, server, report)]
    except SpeechError as error:
        if isinstance(error.__cause__, httpx.ConnectError) and _is_here(url):
            return [Told(_NOT_RUNNING.format(server), calm=True)]
        why = str(error)
    except TimeoutError:
        why = f"Sesame speech server at {server}: it does not answer within {DEADLINE_S:g} s"
    return [Told(f"Whether the agents' speakers have a voice could not be asked. {why}")]


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_NOT_RUNNING = (
    "The speech server at {} is not running, so whether it has a voice for each speaker was not checked."
)
