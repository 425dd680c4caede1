from __future__ import annotations

import json
import re

import httpx


def figure(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} is not among the figures"
    return float(found[1])


async def test_figures_of_what_happened(start, heard) -> None:
    server = start(max_streams=3)
    async with server.connect() as socket:
        for message in ({"text": "Hello."}, {"text": "..."}, {"text": "Hello.", "max_audio_length_ms": 100}):
            await socket.send(json.dumps(message))
            await heard(socket)
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://{server.host}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    asked = 'sesame_requests_total{{endpoint="/ws/generate",outcome="{}"}}'
    assert [figure(answer.text, asked.format(how)) for how in ("eos", "bad_request", "max_length")] == [
        1,
        1,
        1,
    ]
    assert figure(answer.text, 'sesame_first_audio_seconds_count{endpoint="/ws/generate"}') == 2
    assert figure(answer.text, "sesame_audio_seconds_total") > 0.5
    assert figure(answer.text, "sesame_streams_capacity") == 3
    assert figure(answer.text, "sesame_streams_active") == 0
    assert figure(answer.text, "sesame_connections") == 1


async def test_docs_show_every_http_endpoint(server) -> None:
    async with server.client() as http:
        page = (await http.get("/docs")).text
        assert "swagger" in page.lower()
        parts = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(parts) >= 3
        for part in parts:  # by this server, all of them: a CDN may be out of reach
            assert (await http.get(part)).status_code == 200, part
        paths = (await http.get("/openapi.json")).json()["paths"]
    assert {"/generate", "/health", "/metrics", "/v1/audio/speech", "/v1/models", "/v1/audio/voices"} <= set(
        paths
    )
