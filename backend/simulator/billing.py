"""What `call.hangup` and `call.cost` tell about an ended call: SIP codes and list prices."""

from __future__ import annotations

import math
from typing import Any

from backend.simulator.machine import MachineDetection

SIP_CAUSES = {
    "normal_clearing": "200",
    "user_busy": "486",
    "no_answer": "480",
    "timeout": "408",
    "call_rejected": "603",
    "not_found": "404",
    "originator_cancel": "487",
}

_PER_MINUTE_USD = (("call-control", 0.002), ("sip-trunking", 0.0035))
_STREAMING_USD = ("media-streaming", 0.0035)
_RECORDING_USD = ("call-recording", 0.002)
_DETECTION = "answering-machine-detection"
_DETECTION_USD, _PREMIUM_DETECTION_USD = 0.002, 0.0065  # a call


def call_cost(
    talked_s: float, *, streamed: bool, recorded: bool = False, detection: MachineDetection = "disabled"
) -> dict[str, Any]:
    """The payload of `call.cost`: whole minutes, begun ones count."""
    minutes = max(1, math.ceil(talked_s / 60))
    used = ((streamed, _STREAMING_USD), (recorded, _RECORDING_USD))
    rates = (*_PER_MINUTE_USD, *(part for was_used, part in used if was_used))
    costs = [(name, rate, minutes * rate) for name, rate in rates]
    if detection != "disabled":
        price = _PREMIUM_DETECTION_USD if detection == "premium" else _DETECTION_USD
        costs.append((_DETECTION, price, price))
    return {
        "billed_duration_secs": 60 * minutes,
        "status": "success",
        "total_cost": f"{sum(cost for *_, cost in costs):.4f}",
        "cost_parts": [
            {
                "call_part": name,
                "rate": f"{rate:.4f}",
                "cost": f"{cost:.4f}",
                "currency": "USD",
                "billed_duration_secs": 60 * minutes,
            }
            for name, rate, cost in costs
        ],
    }
