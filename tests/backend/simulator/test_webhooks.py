"""Webhooks as Telnyx sends them: signed, concurrent, repeated until answered in time."""

from __future__ import annotations

import asyncio

import pytest
from telnyx.lib.webhook_verification import WebhookVerificationError, verify_webhook_signature

from backend.simulator.webhooks import WebhookPolicy, WebhookSender

FAST = WebhookPolicy(answer_within_s=0.2, attempts=3, first_pause_s=0.01, hold_back_s=0.05)


@pytest.fixture
async def sender():
    one = WebhookSender(FAST)
    yield one
    await one.close()


async def test_the_sdk_accepts_the_signature_and_refuses_a_changed_body(sender, webhooks):
    sender.send(webhooks.url, "call.initiated", {"call_control_id": "c", "from": "+1"})
    one = await webhooks.wait("call.initiated")
    verify_webhook_signature(one.raw.decode(), one.headers, sender.public_key)
    with pytest.raises(WebhookVerificationError):
        verify_webhook_signature(one.raw.decode() + " ", one.headers, sender.public_key)
    data, meta = one.event["data"], one.event["meta"]
    assert data["record_type"] == "event"
    assert data["payload"] == {"call_control_id": "c", "from": "+1"}
    assert data["occurred_at"].endswith("Z")
    assert meta == {"attempt": 1, "delivered_to": webhooks.url}


async def test_a_refused_or_unanswered_event_comes_again_with_the_same_id(sender, webhooks):
    never = asyncio.Event()

    async def answer(one) -> int:
        if one.event["meta"]["attempt"] == 1:
            return 500
        if one.event["meta"]["attempt"] == 2:
            await asyncio.wait([asyncio.ensure_future(never.wait())], timeout=0.5)
        return 204

    webhooks.answer = answer
    event_id = sender.send(webhooks.url, "call.answered", {"call_control_id": "c"})
    last = await webhooks.wait("call.answered", count=3)
    verify_webhook_signature(last.raw.decode(), last.headers, sender.public_key)
    assert [one.event["meta"]["attempt"] for one in webhooks.received] == [1, 2, 3]
    assert {one.event["data"]["id"] for one in webhooks.received} == {event_id}
    never.set()


async def test_attempts_are_bounded_and_an_absent_receiver_breaks_nothing(sender, webhooks, caplog):
    async def answer(_) -> int:
        return 503

    webhooks.answer = answer
    sender.send(webhooks.url, "call.hangup", {"call_control_id": "c"})
    sender.send("http://127.0.0.1:9/hook", "call.hangup", {"call_control_id": "c"})
    await sender.close(grace_s=10)
    assert len(webhooks.received) == 3
    assert sum("given up after 3 attempts" in line for line in caplog.messages) == 2


async def test_a_slow_answer_holds_no_other_event_back(sender, webhooks):
    release = asyncio.Event()

    async def answer(one) -> int:
        if one.type == "call.initiated":
            await release.wait()
        return 200

    webhooks.answer = answer
    sender.send(webhooks.url, "call.initiated", {"call_control_id": "c"})
    sender.send(webhooks.url, "call.hangup", {"call_control_id": "c"})
    await webhooks.wait("call.hangup")
    release.set()


async def test_duplicates_have_the_same_id(webhooks):
    sender = WebhookSender(WebhookPolicy(duplicate=True))
    event_id = sender.send(webhooks.url, "call.answered", {"call_control_id": "c"})
    await webhooks.wait("call.answered", count=2)
    await sender.close(grace_s=5)
    assert [one.event["data"]["id"] for one in webhooks.received] == [event_id] * 2


async def test_events_overtake_each_other(webhooks):
    sender = WebhookSender(WebhookPolicy(reorder=True, hold_back_s=0.1))
    names = [f"event.{n}" for n in range(12)]
    for name in names:
        sender.send(webhooks.url, name, {"call_control_id": "c"})
    await sender.close(grace_s=5)
    assert webhooks.types() != names
    assert sorted(webhooks.types()) == sorted(names)
