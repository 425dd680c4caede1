"""The stand-in's own API and its process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import httpx

from backend.simulator.__main__ import main
from backend.simulator.orders import CallTimes
from backend.simulator.record import LineRecord


async def test_a_bad_request_is_one_sentence(stand_in):
    good = {"to": "+13125550100", "from": "+13125550199"}
    for body, sentence in (
        ({"to": "+13125550100"}, "from: Field required"),
        (good | {"to": "55"}, "to: String should match pattern"),
        (good | {"codex": "PCMU"}, "codex: Extra inputs"),
        (good | {"codec": "G722"}, "codec: Input should be"),
        (
            good | {"script": {"steps": [{"sai": "x"}]}},
            "script.steps[0]: unknown field 'sai'; did you mean 'say'?",
        ),
        (good | {"script": {"steps": [{"say": "unpronounceable"}]}}, "there is nothing to pronounce"),
    ):
        answer = await stand_in.http.post("/sim/calls", json=body)
        assert answer.status_code == 422
        assert sentence in answer.json()["error"]["message"]
    assert (await stand_in.http.get("/sim/calls")).json() == {"calls": []}


async def test_an_unknown_call_is_404(stand_in):
    for path in ("/sim/calls/v3:none", "/sim/calls/v3:none/audio.wav"):
        assert (await stand_in.http.get(path)).status_code == 404


async def test_a_caller_nobody_answers_gives_up(start):
    async with start(times=CallTimes(caller_rings_s=0.05)) as stand_in:
        ccid = await stand_in.ring({"say": "x"})
        call = await stand_in.ended(ccid)
    assert (call["hangup_cause"], call["hangup_source"]) == ("originator_cancel", "caller")
    assert [event["kind"] for event in call["record"]["events"]] == ["ringing", "hangup"]


async def test_recordings_are_written_where_asked(start, tmp_path):
    async with start(out_dir=tmp_path / "out") as stand_in:
        ccid, stream = await stand_in.answered()
        await stream.until("media", count=5)
        await stand_in.sdk.calls.actions.hangup(ccid)
        await stand_in.ended(ccid)
    [wav], [record] = (tmp_path / "out").glob("*.wav"), (tmp_path / "out").glob("*.json")
    assert wav.stat().st_size > 44
    kept = LineRecord.from_json(json.loads(record.read_text()))
    assert (kept.call_control_id, kept.direction, kept.codec) == (ccid, "inbound", "PCMU")
    assert LineRecord.from_json(kept.to_json()) == kept


async def test_a_call_is_cut_at_the_time_limit(start):
    async with start(times=CallTimes(longest_call_s=0.1)) as stand_in:
        ccid, _ = await stand_in.answered()
        assert (await stand_in.ended(ccid))["hangup_cause"] == "time_limit"


def test_a_port_in_use_is_one_sentence(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_the_process_serves_tells_its_key_and_ends_on_ctrl_c(tmp_path):
    key = tmp_path / "key"
    command = [sys.executable, "-m", "backend.simulator", "--port", "0", "--public-key-out", str(key)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2].removesuffix("/v2,")
        with httpx.Client(transport=httpx.HTTPTransport(retries=5)) as client:
            health = client.get(f"{url}/sim/health", timeout=20).json()
            process.stdout.readline()
            key_told = process.stdout.readline().strip().removeprefix("TELNYX_API_KEY=")
            keys = ({"Authorization": f"Bearer {key_told}"}, {"Authorization": "Bearer another"}, {})
            replies = [client.get(f"{url}/v2/balance", headers=one, timeout=20) for one in keys]
        assert [reply.status_code for reply in replies] == [200, 401, 401]
        assert replies[1].json()["errors"][0]["code"] == "10009"
        assert health["status"] == "ok"
        assert health["public_key"] == key.read_text().strip()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in errors
