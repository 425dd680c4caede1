"""CallControl: the official SDK against a small carrier on this machine."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from backend.errors import CallGone, CarrierError
from backend.telnyx.control import (
    CallControl,
    DialedCall,
    retry_delay_s,
    speak_language,
    transcription_engine,
)

DIALED = {
    "data": {
        "call_control_id": "v3:new",
        "call_leg_id": "leg",
        "call_session_id": "session",
        "is_alive": False,
        "record_type": "call",
    }
}


def refusing(code: str, title: str = "Title", detail: str = "The detail.") -> dict[str, Any]:
    return {"errors": [{"code": code, "title": title, "detail": detail}]}


@dataclass
class Carrier:
    """Answers with what is queued, then 200 and `{"data": {"result": "ok"}}`; remembers every request."""

    base_url: str = ""
    answers: list[tuple[int, dict[str, Any] | str, dict[str, str]]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)
    hang: threading.Event | None = None

    def answer(self, status: int, body: dict[str, Any] | str, **headers: str) -> None:
        self.answers.append((status, body, headers))


@pytest.fixture
def carrier() -> Iterator[Carrier]:
    carrier = Carrier()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            carrier.requests.append((f"{self.command} {self.path}", json.loads(body) if body else {}))
            carrier.authorizations.add(self.headers["authorization"])
            if carrier.hang:
                carrier.hang.wait(30)
                self.close_connection = True
                return
            status, answer, headers = (
                carrier.answers.pop(0) if carrier.answers else (200, {"data": {"result": "ok"}}, {})
            )
            data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            for name, value in {"content_type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    carrier.base_url = f"http://127.0.0.1:{server.server_port}/v2"
    yield carrier
    if carrier.hang:
        carrier.hang.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
async def control(carrier: Carrier, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CallControl]:
    # With these the SDK would leave our key aside and ask for an OAuth token.
    monkeypatch.setenv("TELNYX_CLIENT_ID", "somebody")
    monkeypatch.setenv("TELNYX_CLIENT_SECRET", "else")
    control = CallControl(api_key="KEY123", base_url=carrier.base_url, connection_id="conn-1", timeout_s=5)
    yield control
    await control.aclose()


async def test_every_command_goes_where_it_should(carrier: Carrier, control: CallControl) -> None:
    await control.answer("v3:a", command_id="c1")
    await control.start_streaming("v3:a", stream_url="wss://x/media/1", auth_token="t", command_id="c2")
    await control.start_streaming(
        "v3:a", stream_url="wss://x/media/2", auth_token="u", codec="PCMA", command_id="c3"
    )
    await control.hangup("v3:a", command_id="c4")
    await control.reject("v3:a", cause="USER_BUSY", command_id="c5")
    await control.transfer("v3:a", to="+15550100009", command_id="c6")
    await control.send_dtmf("v3:a", digits="1w#", command_id="c7")
    await control.speak("v3:a", text="Hello.", language="en", command_id="c8")
    await control.start_recording(
        "v3:a", channels="dual", audio_format="wav", client_state="call_1", command_id="c9"
    )
    await control.stop_recording("v3:a", command_id="c10")

    at = "POST /v2/calls/v3:a/actions/"
    streaming = {
        "stream_track": "inbound_track",
        "stream_bidirectional_mode": "rtp",
        "stream_bidirectional_target_legs": "self",
    }
    assert carrier.requests == [
        (f"{at}answer", {"command_id": "c1"}),
        (
            f"{at}streaming_start",
            {
                **streaming,
                "stream_url": "wss://x/media/1",
                "stream_auth_token": "t",
                "stream_bidirectional_codec": "PCMU",
                "command_id": "c2",
            },
        ),
        (
            f"{at}streaming_start",
            {
                **streaming,
                "stream_url": "wss://x/media/2",
                "stream_auth_token": "u",
                "stream_bidirectional_codec": "PCMA",
                "command_id": "c3",
            },
        ),
        (f"{at}hangup", {"command_id": "c4"}),
        (f"{at}reject", {"cause": "USER_BUSY", "command_id": "c5"}),
        (f"{at}transfer", {"to": "+15550100009", "command_id": "c6"}),
        (f"{at}send_dtmf", {"digits": "1w#", "command_id": "c7"}),
        (f"{at}speak", {"payload": "Hello.", "voice": "female", "language": "en-US", "command_id": "c8"}),
        (
            f"{at}record_start",
            {
                "channels": "dual",
                "format": "wav",
                "client_state": base64.b64encode(b"call_1").decode(),
                "command_id": "c9",
            },
        ),
        (f"{at}record_stop", {"command_id": "c10"}),
    ]
    assert carrier.authorizations == {"Bearer KEY123"}


async def test_a_call_is_dialed(carrier: Carrier, control: CallControl) -> None:
    carrier.answer(200, DIALED)
    dialed = await control.dial(
        to="+15550100009",
        from_="+15550100001",
        client_state="call-1",
        time_limit_secs=600,
        machine_detection="greeting_end",
        command_id="c1",
    )
    assert dialed == DialedCall("v3:new", "leg", "session")
    assert carrier.requests == [
        (
            "POST /v2/calls",
            {
                "connection_id": "conn-1",
                "to": "+15550100009",
                "from": "+15550100001",
                "timeout_secs": 30,
                "client_state": base64.b64encode(b"call-1").decode(),
                "time_limit_secs": 600,
                "answering_machine_detection": "greeting_end",
                "command_id": "c1",
            },
        )
    ]


async def test_a_fault_that_passes_is_retried_with_the_same_command_id(
    carrier: Carrier, control: CallControl
) -> None:
    carrier.answer(503, {})
    carrier.answer(429, refusing("10011"), Retry_After="0")
    carrier.answer(200, DIALED)
    assert (await control.dial(to="+1555", from_="+1556", command_id="once")).call_control_id == "v3:new"
    assert [body["command_id"] for _, body in carrier.requests] == ["once"] * 3


async def test_a_dial_that_names_no_call_is_an_error(carrier: Carrier, control: CallControl) -> None:
    for answer in ({}, {"data": {}}, {"data": None}):
        carrier.answer(200, answer)
        with pytest.raises(CarrierError, match="its answer names no call"):
            await control.dial(to="+1555", from_="+1556", command_id="c")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, refusing("10009"), "TELNYX_API_KEY"),
        (403, refusing("10010"), "may not do this"),
        (422, refusing("90034"), "has not been answered yet"),
        (403, refusing("90041"), "account's limit of simultaneous calls"),
        (403, refusing("90042"), "connection's limit of simultaneous calls"),
        (403, refusing("90043"), "limit of simultaneous calls"),
        (422, refusing("90045"), "already in use"),
        (422, refusing("90046"), "PUBLIC_URL"),
        (422, refusing("90048"), "not being streamed"),
        (422, refusing("90102"), "only the called party"),
        (422, refusing("10016", "Invalid", "Must be +E.164."), "Invalid: Must be +E.164. (HTTP 422"),
        (422, {"errors": "odd"}, "no reason was given. (HTTP 422)"),
        (422, {"errors": []}, "no reason was given"),
        (418, {}, "no reason was given. (HTTP 418)"),
    ],
)
async def test_refusals_are_told_once_and_plainly(
    carrier: Carrier, control: CallControl, status: int, body: dict[str, Any], said: str
) -> None:
    carrier.answer(status, body)
    with pytest.raises(CarrierError) as caught:
        await control.answer("v3:a", command_id="c")
    assert not isinstance(caught.value, CallGone)
    assert str(caught.value).startswith("Telnyx did not answer the call: ")
    assert said in str(caught.value)
    assert caught.value.status == status
    if isinstance(body.get("errors"), list) and body["errors"]:
        assert caught.value.code == body["errors"][0]["code"]
    assert len(carrier.requests) == 1


@pytest.mark.parametrize(("status", "code"), [(422, "90018"), (404, "10005")])
async def test_a_call_that_has_ended_is_gone(
    carrier: Carrier, control: CallControl, status: int, code: str
) -> None:
    carrier.answer(status, refusing(code))
    with pytest.raises(CallGone) as caught:
        await control.hangup("v3:a", command_id="c")
    assert (caught.value.status, caught.value.code) == (status, code)


async def test_404_on_dialing_is_the_connection_not_the_call(carrier: Carrier, control: CallControl) -> None:
    carrier.answer(404, refusing("10005", "Resource not found", ""))
    with pytest.raises(CarrierError, match="TELNYX_CONNECTION_ID") as caught:
        await control.dial(to="+1555", from_="+1556", command_id="c")
    assert not isinstance(caught.value, CallGone)


async def test_a_rate_limit_longer_than_the_deadline_fails_at_once(
    carrier: Carrier, control: CallControl
) -> None:
    carrier.answer(429, refusing("10011"), Retry_After="30")
    began_s = time.monotonic()
    with pytest.raises(CarrierError, match="rate limit") as caught:
        await control.answer("v3:a", command_id="c")
    assert caught.value.code == "10011"
    assert time.monotonic() - began_s < 30, "the thirty seconds were not waited for"
    assert len(carrier.requests) == 1


async def test_a_lasting_fault_of_telnyx_is_told(carrier: Carrier, control: CallControl) -> None:
    for _ in range(3):
        carrier.answer(500, {})
    with pytest.raises(CarrierError, match=r"fault of its own.*HTTP 500"):
        await control.answer("v3:a", command_id="c")
    assert len(carrier.requests) == 3


async def test_nobody_there(unused_port: int) -> None:
    base_url = f"http://127.0.0.1:{unused_port}/v2"
    control = CallControl(api_key="k", base_url=base_url, connection_id="c", timeout_s=5)
    with pytest.raises(
        CarrierError, match=r"127\.0\.0\.1:\d+/v2 cannot be reached.*TELNYX_BASE_URL"
    ) as caught:
        await control.hangup("v3:a", command_id="c")
    assert (caught.value.status, caught.value.code) == (None, "unreachable")
    await control.aclose()


@pytest.fixture
def unused_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        yield taken.getsockname()[1]


async def test_no_answer_ends_at_the_deadline(carrier: Carrier) -> None:
    carrier.hang = threading.Event()
    control = CallControl(api_key="k", base_url=carrier.base_url, connection_id="c", timeout_s=0.6)
    began_s = time.monotonic()
    with pytest.raises(CarrierError, match=r"did not answer in time \(0\.6 s"):
        await control.hangup("v3:a", command_id="c")
    assert time.monotonic() - began_s < 30, "not the minute that the SDK waits"
    await control.aclose()


async def test_an_answer_that_is_not_telnyxs(carrier: Carrier, control: CallControl) -> None:
    carrier.answer(200, "<h1>Welcome to the hotel's network</h1>", content_type="text/html")
    with pytest.raises(CarrierError, match="its answer names no call"):
        await control.dial(to="+1555", from_="+1556", command_id="c")


async def test_without_a_key_or_a_connection_nothing_is_sent(carrier: Carrier) -> None:
    no_key = CallControl(api_key="", base_url=carrier.base_url, connection_id="c")
    with pytest.raises(CarrierError, match="Set TELNYX_API_KEY"):
        await no_key.answer("v3:a", command_id="c")
    await no_key.aclose()
    no_connection = CallControl(api_key="k", base_url=carrier.base_url, connection_id="")
    with pytest.raises(CarrierError, match="set TELNYX_CONNECTION_ID"):
        await no_connection.dial(to="+1555", from_="+1556", command_id="c")
    await no_connection.aclose()
    assert carrier.requests == []


async def test_a_text_too_long_to_speak_is_not_sent(carrier: Carrier, control: CallControl) -> None:
    with pytest.raises(CarrierError, match="at most 3000 characters"):
        await control.speak("v3:a", text="x" * 3001, language="en", command_id="c")
    assert carrier.requests == []


@pytest.mark.parametrize("status", [200, 403, 404])
async def test_a_key_that_works(carrier: Carrier, control: CallControl, status: int) -> None:
    carrier.answer(status, {"data": {"balance": "10"}})
    await control.check()
    assert [path for path, _ in carrier.requests] == ["GET /v2/balance"]


async def test_a_key_that_does_not_work(carrier: Carrier, control: CallControl) -> None:
    carrier.answer(401, refusing("10009"))
    with pytest.raises(CarrierError, match="key is not accepted"):
        await control.check()


async def test_a_client_handed_in_stays_open(carrier: Carrier) -> None:
    import httpx

    async with httpx.AsyncClient() as client:
        control = CallControl(api_key="k", base_url=carrier.base_url, connection_id="c", http_client=client)
        await control.aclose()
        assert not client.is_closed


def test_when_to_try_again() -> None:
    assert retry_delay_s(None, None, attempt=1, left_s=10) == pytest.approx(0.2)
    assert retry_delay_s(500, None, attempt=2, left_s=10) == pytest.approx(0.6)
    assert retry_delay_s(500, None, attempt=3, left_s=10) is None
    assert retry_delay_s(500, None, attempt=1, left_s=0.1) is None
    assert retry_delay_s(422, None, attempt=1, left_s=10) is None
    assert retry_delay_s(429, "3", attempt=1, left_s=10) == 3
    assert retry_delay_s(429, "Wed, 21 Oct 2026 07:28:00 GMT", attempt=1, left_s=10) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("asked", "spoken"),
    [
        ("en", "en-US"), ("en-GB", "en-GB"), ("EN_au", "en-AU"), ("en-NZ", "en-US"), ("de", "de-DE"),
        ("de-AT", "de-DE"), ("pt", "pt-BR"), ("zh-TW", "cmn-CN"), ("tlh", "en-US"), ("", "en-US"),
    ],
)  # fmt: skip
def test_the_nearest_language_is_spoken(asked: str, spoken: str) -> None:
    assert speak_language(asked) == spoken


async def test_listening_along_is_asked_for_with_the_engine_that_has_the_model(
    carrier: Carrier, control: CallControl
) -> None:
    await control.start_transcription(
        "v3:a", model="deepgram/nova-3", language="en-GB", key_terms=["Kowalski"], command_id="c1"
    )
    path, body = carrier.requests[0]
    assert path == "POST /v2/calls/v3:a/actions/transcription_start"
    assert body == {
        "command_id": "c1",
        "transcription_tracks": "inbound",
        "transcription_engine": "Deepgram",
        "transcription_engine_config": {
            "transcription_engine": "deepgram/nova-3",
            "transcription_model": "deepgram/nova-3",
            "language": "en-GB",
            "interim_results": True,
            "keyterms": ["Kowalski"],
        },
    }


@pytest.mark.parametrize(
    ("model", "language", "engine", "config"),
    [
        (None, "en-US", "Telnyx", {"transcription_engine": "Telnyx", "language": "en"}),
        (
            "openai/whisper-tiny",
            "de-DE",
            "Telnyx",
            {
                "transcription_engine": "Telnyx",
                "language": "de",
                "transcription_model": "openai/whisper-tiny",
            },
        ),
        (
            "deepgram/nova-2",
            "de-DE",
            "Deepgram",
            {
                "transcription_engine": "deepgram/nova-2",
                "transcription_model": "deepgram/nova-2",
                "language": "de",
                "interim_results": True,
                "hints": ["Ann"],
            },
        ),
    ],
)
def test_engines_by_model(model: str | None, language: str, engine: str, config: dict[str, Any]) -> None:
    assert transcription_engine(model, language, ["Ann"]) == (engine, config)
