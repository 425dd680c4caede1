from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from backend.calls.boards.probes import Probe, Probes
from backend.calls.boards.route_board import RouteBoard
from backend.core.health import RouteHealth, RouteKey
from backend.errors import SpeechError, SpeechFailure
from tests.backend.calls.fakes import until

ELEVEN = RouteKey("elevenlabs", "https://api.elevenlabs.io")
REST = RouteKey("elevenlabs_rest", "https://api.elevenlabs.io")
OTHER = RouteKey("sesame_fallback", "http://other")


class Vendors:
    """What looks find: a sentence, a failure, or (None) nothing, ever."""

    def __init__(self) -> None:
        self.found: dict[str, str | SpeechFailure | None] = {
            "account": "60 credits left",
            "mara": "",
            "other": "",
        }
        self.asked: list[str] = []
        self.now_ms = 0.0
        self.board = RouteBoard(lambda: self.now_ms)
        self.probes = self.make()

    def make(self, **more: float) -> Probes:
        every = {"every_s": 0.002, "when_down_s": 0.001, "deadline_s": 0.05} | more
        return Probes(self.board, self.wanted, lambda: self.now_ms, **every)  # type: ignore[arg-type]

    def wanted(self) -> list[Probe]:
        return [
            Probe((ELEVEN, REST), self._look("account")),
            Probe((ELEVEN, REST), self._look("mara"), "mara"),
            Probe((OTHER,), self._look("other")),
        ]

    def _look(self, what: str) -> Callable[[], Awaitable[str]]:
        async def look() -> str:
            self.asked.append(what)
            found = self.found[what]
            if found is None:
                await asyncio.Event().wait()
            if found in ("quota", "unauthorized", "unknown_voice", "unreachable", "timeout"):
                raise SpeechError(f"{what}: {found}", route="any", reason=found)
            return str(found)

        return look

    def rows(self) -> list[RouteHealth]:
        return self.board.health([ELEVEN, REST, OTHER])


async def test_what_is_well_is_told() -> None:
    vendors = Vendors()
    assert await vendors.probes.look_at_all()
    assert [(row.state, row.detail) for row in vendors.rows()] == [
        ("up", "60 credits left"),
        ("up", "60 credits left"),
        ("up", "works"),
    ]


async def test_a_used_up_quota_is_found_before_a_call_meets_it_and_mended() -> None:
    vendors = Vendors()
    vendors.found["account"] = "quota"
    assert not await vendors.probes.look_at_all()
    assert not vendors.board.allows(ELEVEN, "mara") and not vendors.board.allows(REST, "mara")
    assert vendors.board.allows(OTHER)
    assert vendors.rows()[0].detail.startswith("Out of quota")
    vendors.now_ms += 30_000
    vendors.found["account"] = "1000 credits left"
    assert await vendors.probes.look_at_all()
    assert vendors.board.allows(ELEVEN, "mara")


async def test_what_only_speaking_found_a_look_does_not_mend() -> None:
    vendors = Vendors()
    vendors.board.failed(ELEVEN, SpeechError("this key's own quota", route="elevenlabs", reason="quota"))
    assert await vendors.probes.look_at_all()
    assert not vendors.board.allows(ELEVEN) and vendors.board.allows(REST)


async def test_an_unknown_voice_shuts_out_that_voice() -> None:
    vendors = Vendors()
    vendors.found["mara"] = "unknown_voice"
    assert not await vendors.probes.look_at_all()
    assert not vendors.board.allows(ELEVEN, "mara") and vendors.board.allows(ELEVEN, "adam")
    vendors.found["mara"] = ""
    assert await vendors.probes.look_at_all()
    assert vendors.board.allows(ELEVEN, "mara")


async def test_a_vendor_that_is_down_is_not_asked_for_its_voices() -> None:
    vendors = Vendors()
    vendors.found["account"] = None
    assert not await vendors.probes.look_at_all()
    assert vendors.asked == ["account", "other"]


async def test_it_goes_on_until_it_is_stopped() -> None:
    vendors = Vendors()
    running = asyncio.create_task(vendors.probes.run())
    await vendors.probes.looked.wait()
    await until(lambda: vendors.asked.count("other") >= 4)
    vendors.found["other"] = None
    asked = len(vendors.asked)
    await until(lambda: len(vendors.asked) > asked)
    running.cancel()
    async with asyncio.timeout(1):
        await asyncio.wait([running])
    assert running.cancelled()
