"""What a call is reckoned to cost, and what the carrier bills."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from backend.core.cost import Bill, Meter, Prices, billed, parse_prices
from backend.errors import ConfigError

MINUTE = 60_000.0


def test_a_call_that_nobody_answered_costs_nothing() -> None:
    assert Meter(Prices()).usd(MINUTE) is None and Meter(Prices()).used_usd(MINUTE) is None


def test_minutes_are_counted_by_direction_from_the_answer_on() -> None:
    inbound, outbound = Meter(Prices()), Meter(Prices(), outbound=True)
    inbound.answered(1000.0)
    outbound.answered(1000.0, detection=True)
    assert inbound.used_usd(1000.0) == 0
    assert inbound.usd(1000.0 + 2 * MINUTE) == pytest.approx(2 * (0.002 + 0.0035 + 0.0035))
    assert outbound.usd(1000.0 + 2 * MINUTE) == pytest.approx(2 * (0.002 + 0.005 + 0.0035) + 0.002)


@pytest.mark.parametrize(("seconds", "minutes"), [(0, 1), (1, 1), (60, 1), (61, 2), (96, 2), (600, 10)])
def test_begun_minutes_of_the_call_count_and_no_more_is_rounded(seconds: float, minutes: int) -> None:
    meter, now_ms = Meter(Prices()), 500.0 + seconds * 1000
    meter.answered(500.0)
    meter.recording(True, 500.0)
    by_the_second = seconds / 60 * (0.0035 + 0.002)  # streaming, recording
    assert meter.usd(now_ms) == pytest.approx(minutes * (0.002 + 0.0035) + by_the_second)
    assert meter.used_usd(now_ms) == pytest.approx(seconds / 60 * (0.002 + 0.0035) + by_the_second)


def test_recording_counts_while_it_runs() -> None:
    meter = Meter(Prices(call_minute=0, inbound_minute=0, streaming_minute=0))
    meter.answered(0)
    meter.recording(True, 0)
    meter.recording(False, MINUTE)
    meter.recording(False, 2 * MINUTE)
    meter.recording(True, 3 * MINUTE)
    assert meter.usd(4 * MINUTE) == pytest.approx(2 * 0.002)


def test_what_is_used_once_is_added_when_its_price_is_known() -> None:
    prices = Prices(0, 0, 0, 0, 0, 0, 0.1, 1.0, 4.0, 0.05)
    meter = Meter(prices)
    meter.answered(0)
    meter.transferred()
    meter.thought(500_000, 250_000)
    meter.spoke("elevenlabs_ws", 2000)
    meter.spoke("sesame_ws", 2000)
    assert meter.usd(MINUTE) == pytest.approx(0.1 + 0.5 + 1.0 + 0.1)


def test_prices_are_list_prices_unless_told() -> None:
    assert parse_prices("") == parse_prices(" {} ") == Prices()
    assert parse_prices('{"transfer": 1, "call_minute": 0.5}') == Prices(call_minute=0.5, transfer=1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.5", "JSON object like"),
        ("{", "is not JSON"),
        ('{"transfr": 1}', "did you mean 'transfer'"),
        ('{"xyz": 1}', "known are call_minute"),
        ('{"transfer": "1"}', "number of US dollars"),
        ('{"transfer": true}', "number of US dollars"),
        ('{"transfer": -1}', "number of US dollars"),
        ('{"transfer": NaN}', "number of US dollars"),
    ],
)
def test_prices_that_make_no_sense_are_told(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_prices(text)


def test_every_price_is_in_the_reference() -> None:
    reference = (Path(__file__).parents[3] / "docs/reference/settings.md").read_text(encoding="utf-8")
    for field in fields(Prices):
        assert f"`{field.name}`" in reference, field.name
        assert f"{field.default:g}" in reference


def test_the_bill() -> None:
    parts = [
        {"call_part": "sip-trunking", "cost": "0.0050", "currency": "USD"},
        {"call_part": "call-control", "cost": "0.0020"},
        {"call_part": "call-control", "cost": "0.0010"},
        {"call_part": "odd", "cost": "much"},
        "nonsense",
    ]
    bill = billed({"total_cost": "0.0080", "status": "success", "cost_parts": parts})
    assert bill is not None
    assert (bill.usd, bill.parts) == (0.008, {"sip-trunking": 0.005, "call-control": pytest.approx(0.003)})
    assert billed({"total_cost": 0.5}) == Bill(0.5, {})


@pytest.mark.parametrize(
    "payload", [{}, {"total_cost": "NaN"}, {"total_cost": None}, {"total_cost": "1", "status": "error"}]
)
def test_a_bill_without_a_cost_is_none(payload: dict[str, Any]) -> None:
    assert billed(payload) is None
