from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from runpod_server.audio import pcm16_from_float, wav

SPEECH = wav(pcm16_from_float(0.3 * np.sin(np.arange(80_000, dtype=np.float32) / 20)))


def form(**fields: str) -> dict[str, Any]:
    given = {"name": "mara", "transcript": "Hello there.", **fields}
    return {"data": given, "files": {"recording": ("mara.wav", SPEECH, "audio/wav")}}


async def test_a_voice_comes_is_used_and_goes(start, heard, tmp_path: Path) -> None:
    server = start(voices_dir=tmp_path)
    async with server.client() as http:
        shipped = (await http.get("/voices")).json()["voices"]
        assert len(shipped) == 10 and all(each["shipped"] for each in shipped)
        made = await http.post("/voices", **form(speaker_id="5"))
        assert made.status_code == 201
        expected = {
            "name": "mara",
            "speaker_id": 5,
            "description": "",
            "transcript": "Hello there.",
            "duration_ms": 3333,
            "shipped": False,
        }
        assert made.json() == {"success": True, "voice": expected}
        listed = (await http.get("/voices")).json()
        assert [each for each in listed["voices"] if not each["shipped"]] == [expected]
        assert [each["name"] for each in listed["voices"] if each["speaker_id"] == 5] == ["mara"], "it wins"
        assert listed["used_by_engine"] is False and "ignores these recordings" in listed["notice"]
        names = [each["id"] for each in (await http.get("/v1/audio/voices")).json()["voices"]]
        assert "mara" in names and len(names) == 21
        async with server.connect() as socket:
            sounds = []
            for fields in ({"voice": "mara"}, {"speaker_id": 5}):
                await socket.send(json.dumps({"text": "Good morning.", "seed": 1, **fields}))
                sounds.append((await heard(socket)).pcm16)
        assert sounds[0] == sounds[1] != b""
        assert (await http.delete("/voices/mara")).json() == {"success": True}
        assert (await http.get("/voices")).json()["voices"] == shipped


async def test_a_new_folder_begins_with_the_shipped_voices(start, heard, tmp_path: Path) -> None:
    server = start(voices_dir=tmp_path / "voices")
    async with server.client() as http:
        shipped = (await http.get("/voices")).json()["voices"]
        assert sorted(each["speaker_id"] for each in shipped) == list(range(10))
        kept = await http.delete("/voices/rowan")
        assert (kept.status_code, kept.json()["error"]) == (409, "conflict")
        assert "comes with this program" in kept.json()["message"]
    async with server.connect() as socket:  # the preview engine speaks with its own, whoever is asked for
        sounds = []
        for fields in ({"voice": "rowan"}, {"speaker_id": 1}, {"voice": "birch"}):
            await socket.send(json.dumps({"text": "Good morning.", "seed": 1, **fields}))
            sounds.append((await heard(socket)).pcm16)
    assert sounds[0] == sounds[1] == sounds[2] != b""


async def test_mistakes_have_their_status_and_sentence(start, tmp_path: Path) -> None:
    server = start(voices_dir=tmp_path)
    async with server.client() as http:
        await http.post("/voices", **form(speaker_id="5"))
        for answer, status, code, says in (
            (await http.post("/voices", **form()), 409, "conflict", "there is a voice 'mara'"),
            (await http.post("/voices", **form(name="ole", speaker_id="5")), 409, "conflict", "speaker 5"),
            (await http.post("/voices", **form(name="ole", speaker_id="ten")), 400, "bad_request", "0 to 9"),
            (await http.post("/voices", **form(name="../ole")), 400, "bad_request", "cannot name a voice"),
            (await http.post("/voices", data=form()["data"]), 400, "bad_request", "recording"),
            (await http.post("/voices", content=b"x"), 400, "bad_request", ""),
            (await http.delete("/voices/ole"), 404, "not_found", "no voice 'ole'"),
        ):  # fmt: skip
            assert (answer.status_code, answer.json()["error"]) == (status, code), answer.text
            assert says in answer.json()["message"]


async def test_without_voices_dir_it_says_what_to_set(server) -> None:
    async with server.client() as http:
        listed = (await http.get("/voices")).json()
        assert (len(listed["voices"]), listed["writable"]) == (10, False)
        refused = await http.post("/voices", **form())
        assert (refused.status_code, refused.json()["error"]) == (507, "voices_unavailable")
        assert "VOICES_DIR" in refused.json()["message"]


async def test_bodies_are_bounded_but_not_by_the_texts_bound(start, tmp_path: Path) -> None:
    server = start(voices_dir=tmp_path, max_text_chars=10)
    async with server.client() as http:
        assert (await http.post("/voices", **form())).status_code == 201
        large = {"recording": ("x.wav", bytes(25 * 1024 * 1024), "audio/wav")}
        answer = await http.post("/voices", data={"name": "ole", "transcript": "Hi."}, files=large)
        assert (answer.status_code, answer.json()["error"]) == (413, "bad_request")


async def test_voices_want_the_key(start, tmp_path: Path) -> None:
    server = start(voices_dir=tmp_path, sesame_api_key="a-key-nobody-guesses")
    async with server.client() as http:
        assert (await http.get("/voices")).status_code == 401
        assert (await http.post("/voices", **form())).status_code == 401
        assert (await http.delete("/voices/mara")).status_code == 401
