"""What nodes do beside speaking."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import pytest

from backend.calls.flow_actions import NOT_CONNECTED, FlowActions
from backend.calls.ledger import Ledger
from backend.calls.leg import CarrierLeg
from backend.calls.tape import Tape
from backend.core.agent_settings import RecordingSettings
from backend.core.records import CallRecord
from backend.core.steps import CallWebhook, Hangup, Record, SendDtmf, Transfer
from tests.backend.calls.carrier import REFUSED, Carrier, Counter
from tests.backend.calls.fakes import MemoryStore, until

RECORD = CallRecord(
    "call_1", "inbound", "desk", "+1555", "+1666", "in_progress", datetime.now(UTC), call_control_id="v3:1"
)


class World:
    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.carrier, self.ledger = Carrier(), Ledger(RECORD, MemoryStore(), Counter())
        self.sent: list[tuple[str, Mapping[str, object]]] = []
        self.gate = asyncio.Event()
        self.handed_over = 0
        leg = CarrierLeg(self.carrier, self.ledger)
        self.actions = FlowActions(
            leg,
            self.ledger,
            Tape(leg, self.ledger, RecordingSettings(), tasks),
            self._send,
            tasks,
            on_handed_over=self._count,
        )

    async def _send(self, url: str, data: Mapping[str, object]) -> None:
        self.sent.append((url, data))
        await self.gate.wait()

    def _count(self) -> None:
        self.handed_over += 1


async def test_webhooks_that_are_off_are_said_to_be_off(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.TaskGroup() as tasks:
        world = World(tasks)
        leg = CarrierLeg(world.carrier, world.ledger)
        tape = Tape(leg, world.ledger, RecordingSettings(), tasks)
        actions = FlowActions(leg, world.ledger, tape, None, tasks, on_handed_over=lambda: None)
        await actions.perform(CallWebhook("https://crm.example/hook/s3cr3t"), "menu", {})
    assert "webhook actions are off here: nothing is sent to crm.example" in caplog.text
    assert "s3cr3t" not in caplog.text


async def test_keys_and_transfers_reach_the_carrier() -> None:
    async with asyncio.TaskGroup() as tasks:
        world = World(tasks)
        assert await world.actions.perform(SendDtmf("12#"), "menu", {}) is None
        assert await world.actions.perform(Hangup(), "menu", {}) is None
        assert await world.actions.perform(Record(on=True), "menu", {}) is None
        await until(lambda: "start_recording" in world.carrier.done)
        assert not world.actions.handed_over
        assert await world.actions.perform(Transfer("+15551112222"), "menu", {}) is None
    assert world.carrier.done == ["send_dtmf", "start_recording", "transfer"]
    assert world.carrier.last("transfer") == {"to": "+15551112222"}
    assert (world.actions.handed_over, world.handed_over) == (True, 1)


async def test_only_a_transfer_that_fails_is_told_to_the_caller() -> None:
    async with asyncio.TaskGroup() as tasks:
        world = World(tasks)
        world.carrier.refuse.update(transfer=REFUSED, send_dtmf=REFUSED)
        assert await world.actions.perform(SendDtmf("1"), "menu", {}) is None
        assert await world.actions.perform(Transfer("+15551112222"), "menu", {}) == NOT_CONNECTED
    assert world.ledger.error == str(REFUSED)
    assert (world.actions.handed_over, world.handed_over) == (False, 0)


async def test_a_caller_who_hung_up_is_no_failure() -> None:
    async with asyncio.TaskGroup() as tasks:
        world = World(tasks)
        assert await world.actions.perform(Record(on=True), "menu", {}) is None
        await until(lambda: "start_recording" in world.carrier.done)
        world.carrier.over.add("v3:1")
        assert await world.actions.perform(Record(on=False), "menu", {}) is None
        assert await world.actions.perform(SendDtmf("1"), "menu", {}) is None
        assert await world.actions.perform(Transfer("+15551112222"), "menu", {}) is None
    assert sorted(world.carrier.done[1:]) == ["send_dtmf", "stop_recording", "transfer"]
    assert world.ledger.error is None
    assert not world.actions.handed_over


async def test_webhooks_are_sent_beside_the_call_and_bounded(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.TaskGroup() as tasks:
        world = World(tasks)
        for _ in range(9):
            await world.actions.perform(
                CallWebhook("https://crm.example/hook/s3cr3t"), "menu", {"name": "Ann"}
            )
        await until(lambda: len(world.sent) == 8)
        world.gate.set()
    assert len(world.sent) == 8
    url, data = world.sent[0]
    assert url == "https://crm.example/hook/s3cr3t"
    assert "not sent to crm.example: 8 others" in caplog.text and "s3cr3t" not in caplog.text
    assert (data["node_id"], data["call_id"], data["variables"]) == ("menu", "call_1", {"name": "Ann"})


async def test_a_webhook_that_fails_in_an_unforeseen_way_does_not_end_the_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with asyncio.TaskGroup() as tasks:
        world = World(tasks)
        world.gate = Broken()
        await world.actions.perform(CallWebhook("https://crm.example/hook/s3cr3t"), "menu", {})
        await until(lambda: "RuntimeError" in caplog.text)
        assert await world.actions.perform(SendDtmf("1"), "menu", {}) is None
    assert "s3cr3t" not in caplog.text


class Broken(asyncio.Event):
    async def wait(self) -> Literal[True]:
        raise RuntimeError("https://crm.example/hook/s3cr3t: the client has been closed")
