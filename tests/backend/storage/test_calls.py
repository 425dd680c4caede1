"""CallStore on SQLite, and on a throwaway PostgreSQL where a server is installed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from backend.core.records import CallRecord, CallRecording, SpokenBy, ToolUse, TurnRecord, TurnTimings
from backend.errors import RequestError, StorageError
from backend.storage.calls import CallStore

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def make_call(number: int = 1, **changes: object) -> CallRecord:
    call = CallRecord(
        id=f"call-{number}",
        direction="inbound",
        agent_id="front-desk",
        from_number="+15550100001",
        to_number="+15550100002",
        state="ringing",
        created_at=NOON + timedelta(seconds=number),
        call_control_id=f"v3:control-{number}",
        call_session_id=f"session-{number}",
        call_leg_id=f"leg-{number}",
        variables={"name": "Zoë"},
    )
    return dataclasses.replace(call, **changes)  # type: ignore[arg-type]


def make_turn(index: int = 0, **changes: object) -> TurnRecord:
    turn = TurnRecord(
        index=index,
        role="agent",
        text="Good morning, how can I help?",
        heard_text="Good morning,",
        started_ms=120.5,
        ended_ms=1500.25,
        node_id="greeting",
        interrupted=True,
        route="sesame_ws",
        timings=TurnTimings(caller_speech_ended_ms=1.5, heard_ms=210.0),
        spoken=(
            SpokenBy("sesame_ws", "Good morning, how"),
            SpokenBy("elevenlabs", "can I help?", "closed"),
        ),
    )
    return dataclasses.replace(turn, **changes)  # type: ignore[arg-type]


def make_tool(index: int = 0, **changes: object) -> ToolUse:
    arguments = {"day": "Friday", "people": 4, "names": ["Zoë", None]}
    tool = ToolUse(index, "book", arguments, True, 2000.5, 310.25, "booking")
    return dataclasses.replace(tool, **changes)  # type: ignore[arg-type]


def _server_folder() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    candidates = [*reversed(found), *(Path(place).parent for place in [shutil.which("postgres")] if place)]
    return next((place for place in candidates if (place / "initdb").exists()), None)


def _as_somebody() -> list[str]:
    """PostgreSQL refuses to run as root: the prefix of a command that runs as another user."""
    if os.geteuid() != 0:
        return []
    return ["runuser", "-u", "nobody", "--"]


@pytest.fixture(scope="module")
def postgresql_url() -> Iterator[str]:
    pytest.importorskip(
        "asyncpg", reason="asyncpg is not installed: pip install 'sesame-telephony[postgres]'"
    )
    programs = _server_folder()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed here (initdb and postgres)")
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("running as root without runuser: PostgreSQL cannot be started as another user")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        run_as = _as_somebody()
        subprocess.run(
            [*run_as, programs / "initdb", "-D", folder / "data", "-U", "tester", "-A", "trust", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        control = [*run_as, programs / "pg_ctl", "-D", folder / "data", "-w", "-t", "30"]
        options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories='' -c fsync=off"
        log = folder / "data" / "server.log"
        subprocess.run([*control, "-l", log, "-o", options, "start"], check=True, stdout=-3, cwd=folder)
        try:
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=-3, cwd=folder)


@pytest.fixture(params=["sqlite", "memory", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/folder/calls.sqlite3"
    if request.param == "memory":
        return "sqlite://"
    server: str = request.getfixturevalue("postgresql_url")
    import asyncpg

    connection = await asyncpg.connect(server)
    await connection.execute("DROP TABLE IF EXISTS recordings, tool_uses, turns, calls, schema_version")
    await connection.close()
    return server


@pytest.fixture
async def store(url: str) -> AsyncIterator[CallStore]:
    store = await CallStore.open(url)
    yield store
    await store.close()


async def test_a_call_comes_back_as_it_went_in(store: CallStore) -> None:
    local = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    call = make_call(created_at=local, turns=(make_turn(0), make_turn(1, role="caller", via="dtmf")))

    assert await store.create(call) == call

    for any_id in ("call-1", "v3:control-1"):
        kept = await store.get(any_id)
        assert kept == call
        assert kept is not None and kept.created_at.tzinfo is UTC
    assert await store.get("call-2") is None


async def test_an_outbound_call_gets_its_control_id_later(store: CallStore) -> None:
    await store.create(make_call(1, direction="outbound", call_control_id=None, state="queued"))
    await store.create(make_call(2, direction="outbound", call_control_id=None, state="queued"))

    changed = await store.update("call-2", call_control_id="v3:late", state="answered", answered_at=NOON)

    assert changed == await store.get("v3:late")
    assert (changed.id, changed.state, changed.answered_at) == ("call-2", "answered", NOON)
    untouched = await store.get("call-1")
    assert untouched is not None and untouched.state == "queued"


async def test_a_repeated_idempotency_key_returns_the_first_call(store: CallStore) -> None:
    first = await store.create(make_call(1, idempotency_key="order-7"))
    await store.add_turn("call-1", make_turn())

    again = await store.create(make_call(2, idempotency_key="order-7"))

    assert again == dataclasses.replace(first, turns=(make_turn(),))
    assert await store.get("call-2") is None


async def test_many_at_once_with_one_key_make_one_call(store: CallStore) -> None:
    calls = [make_call(number, idempotency_key="the-same") for number in range(12)]

    kept = await asyncio.gather(*(store.create(call) for call in calls))

    assert len({call.id for call in kept}) == 1
    assert len(await store.list()) == 1


async def test_a_carriers_call_is_kept_once(store: CallStore) -> None:
    await store.create(make_call(1))
    assert (await store.create(make_call(2, call_control_id="v3:control-1"))).id == "call-1"


async def test_an_id_of_ours_is_never_used_twice(store: CallStore) -> None:
    await store.create(make_call(1))
    with pytest.raises(StorageError, match="call-1 is in the database already"):
        await store.create(make_call(1, call_control_id="v3:other"))


async def test_turns_are_ordered_and_replaced_by_index(store: CallStore) -> None:
    await store.create(make_call())
    await store.add_turn("call-1", make_turn(1, role="caller", text="Hi", heard_text="Hi"))
    await store.add_turn("call-1", make_turn(0))
    await store.add_turn(
        "call-1", make_turn(0, heard_text="Good morning, how can I help?", interrupted=False)
    )

    call = await store.get("call-1")

    assert call is not None
    assert [(turn.index, turn.heard_text) for turn in call.turns] == [
        (0, "Good morning, how can I help?"),
        (1, "Hi"),
    ]
    assert call.turns[0].timings == TurnTimings(caller_speech_ended_ms=1.5, heard_ms=210.0)
    assert not call.turns[0].interrupted


async def test_a_turn_needs_its_call(store: CallStore) -> None:
    with pytest.raises(StorageError, match="no call nobody in the database to add a turn to"):
        await store.add_turn("nobody", make_turn())


async def test_words_that_no_database_can_hold_cost_no_turn(store: CallStore) -> None:
    await store.create(make_call())
    odd = "Half \ud83d of it,\0 and nothing."
    await store.add_turn("call-1", make_turn(0, text=odd, heard_text=odd))
    changed = await store.update("call-1", error=odd, hangup_cause=odd)
    whole = "Half ? of it, and nothing."
    assert (changed.error, changed.hangup_cause, changed.turns[0].text) == (whole, whole, whole)


SIP_ADDRESS = f"sip:{'a' * 300}@pbx.example;transport=tls"


async def test_a_caller_with_a_long_address_is_kept_whole(store: CallStore) -> None:
    await store.create(make_call(from_number=SIP_ADDRESS, to_number=f"{SIP_ADDRESS};tag=\ud83d\0"))
    kept = await store.get("call-1")
    assert kept is not None
    assert (kept.from_number, kept.to_number) == (SIP_ADDRESS, f"{SIP_ADDRESS};tag=?")


async def test_what_tools_did_is_kept_in_order(store: CallStore) -> None:
    failed = make_tool(1, ok=False, problem="book failed (HTTP 500).", arguments={})
    await store.create(make_call(tools=(make_tool(0),)))
    await store.add_tool("call-1", failed)
    await store.add_tool("call-1", make_tool(0, took_ms=1.0))
    kept = await store.get("call-1")
    assert kept is not None
    assert kept.tools == (make_tool(0, took_ms=1.0), failed)
    assert (await store.list())[0].tools == ()
    with pytest.raises(StorageError, match="no call call-9 in the database"):
        await store.add_tool("call-9", make_tool())


async def test_recordings_are_put_where_they_belong(store: CallStore) -> None:
    began, ended = NOON + timedelta(seconds=3), NOON + timedelta(seconds=60)
    await store.create(make_call())
    await store.keep_recording("call-1", CallRecording("started", NOON, channels="dual"))
    urls = {"mp3": "https://bucket.example/a.mp3?X-Amz-Signature=abc"}
    saved = CallRecording("saved", began, ended, "dual", urls)
    await asyncio.gather(*(store.keep_recording("call-1", saved) for _ in range(4)))
    kept = await store.get("call-1")
    assert kept is not None
    assert kept.recordings == (saved,)
    await store.keep_recording("call-1", CallRecording("failed", problem="no room"))
    kept = await store.get("call-1")
    assert kept is not None
    assert [(item.index, item.state) for item in kept.recordings] == [(0, "saved"), (1, "failed")]
    assert "Signature" not in repr(kept)
    with pytest.raises(StorageError, match="no call call-9 in the database"):
        await store.keep_recording("call-9", saved)


async def test_many_recordings_told_at_once_are_all_kept(store: CallStore) -> None:
    await store.create(make_call())
    told = [CallRecording("saved", NOON + timedelta(minutes=at), urls={"wav": f"u{at}"}) for at in range(8)]
    await asyncio.gather(*(store.keep_recording("call-1", item) for item in told))
    kept = await store.get("call-1")
    assert kept is not None
    assert [item.index for item in kept.recordings] == list(range(8))
    assert {item.urls["wav"] for item in kept.recordings} == {f"u{at}" for at in range(8)}


async def test_a_call_is_found_by_whatever_is_known_of_it(store: CallStore) -> None:
    for number in (1, 2):
        await store.create(make_call(number, call_session_id="session-1"))
    assert await store.find(call_id="call-1", call_session_id="nothing") == "call-1"
    assert await store.find(call_id="nothing", call_control_id="v3:control-2") == "call-2"
    assert await store.find(call_leg_id="leg-1", call_session_id="session-1") == "call-1"
    assert await store.find(call_leg_id="another", call_session_id="session-1") == "call-2"
    assert await store.find(call_control_id="another") is None
    assert await store.find() is None


async def test_changes_are_checked(store: CallStore) -> None:
    await store.create(make_call())
    with pytest.raises(TypeError, match="no field to change named colour"):
        await store.update("call-1", colour="red")
    with pytest.raises(TypeError, match="id"):
        await store.update("call-1", id="call-9")
    with pytest.raises(StorageError, match="no call call-9"):
        await store.update("call-9", state="ended")
    with pytest.raises(StorageError, match="has no time zone"):
        await store.update("call-1", ended_at=datetime(2026, 3, 1))  # noqa: DTZ001


async def test_lists_are_newest_first_filtered_and_paged(store: CallStore) -> None:
    for number in range(7):
        # Pairs share their second, so that paging must also go by id.
        await store.create(
            make_call(
                number,
                created_at=NOON + timedelta(seconds=number // 2),
                agent_id="reminder" if number % 3 == 0 else "front-desk",
                direction="outbound" if number % 3 == 0 else "inbound",
                state="ended" if number < 4 else "ringing",
            )
        )
    await store.add_turn("call-6", make_turn())

    seen: list[str] = []
    before = None
    while page := await store.list(limit=2, before=before):
        assert len(page) <= 2
        seen += [call.id for call in page]
        before = page[-1].id
    assert seen == [f"call-{number}" for number in (6, 5, 4, 3, 2, 1, 0)]

    assert [call.id for call in await store.list(agent_id="reminder")] == ["call-6", "call-3", "call-0"]
    assert [call.id for call in await store.list(agent_id="reminder", state="ended")] == ["call-3", "call-0"]
    assert len(await store.list(direction="inbound")) == 4
    assert (await store.list(limit=1))[0].turns == ()
    with pytest.raises(RequestError, match="there is no call call-99"):
        await store.list(before="call-99")


async def test_many_writers_at_once_lose_nothing(store: CallStore) -> None:
    async def one_call(number: int) -> None:
        await store.create(make_call(number))
        for index in range(4):
            await store.add_turn(f"call-{number}", make_turn(index))
        await store.update(f"call-{number}", state="ended", ended_at=NOON)

    await asyncio.gather(*(one_call(number) for number in range(12)))

    calls = [await store.get(f"call-{number}") for number in range(12)]
    assert [(call.state, len(call.turns)) for call in calls if call] == [("ended", 4)] * 12


async def test_a_database_is_found_again(url: str) -> None:
    if url == "sqlite://":
        pytest.skip("a database in memory ends with its connection")
    first = await CallStore.open(url)
    await first.create(make_call(turns=(make_turn(),)))
    await first.close()

    second = await CallStore.open(url)
    assert await second.get("call-1") == make_call(turns=(make_turn(),))
    await second.ping()
    await second.close()


async def test_two_programs_may_start_at_once(url: str) -> None:
    stores = await asyncio.gather(*(CallStore.open(url) for _ in range(3)))
    for store in stores:
        await store.ping()
        await store.close()


async def test_postgresql_says_what_is_wrong(postgresql_url: str) -> None:
    with pytest.raises(StorageError, match="there is no such database"):
        await CallStore.open(postgresql_url.replace("/postgres", "/elsewhere"))
    with pytest.raises(StorageError, match="there is no such user"):
        await CallStore.open(postgresql_url.replace("tester@", "stranger:secret-word@"))


async def test_a_postgresql_that_is_not_there_is_told_without_its_password() -> None:
    pytest.importorskip("asyncpg")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        port = taken.getsockname()[1]
        with pytest.raises(StorageError, match="cannot be reached") as caught:
            await CallStore.open(f"postgres://me:secret-word@127.0.0.1:{port}/calls")
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("calls.sqlite3", "not a database URL"),
        ("", "not a database URL"),
        ("postgresql://host:port/name", "not a database URL"),
        ("mysql://root@localhost/calls", "names mysql, which is not supported"),
        ("sqlite+pysqlcipher:///x", "which is not supported"),
    ],
)
async def test_urls_that_make_no_sense(url: str, said: str) -> None:
    with pytest.raises(StorageError, match=said) as caught:
        await CallStore.open(url)
    assert "Set DATABASE_URL to sqlite:///" in str(caught.value)


async def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(
        StorageError, match=r"folder .*file for the database cannot be made .*Set DATABASE_URL"
    ):
        await CallStore.open(f"sqlite:///{tmp_path}/file/calls.sqlite3")
    with pytest.raises(StorageError, match="it cannot be written"):
        await CallStore.open(f"sqlite:///{tmp_path}")


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam, " * 100)
    with pytest.raises(StorageError, match="is not an SQLite database"):
        await CallStore.open(f"sqlite:///{tmp_path}/letter.txt")


async def test_a_locked_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite3"
    store = await CallStore.open(f"sqlite:///{path}", busy_timeout_ms=20)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="another program holds it"):
            await store.create(make_call())
        other.execute("ROLLBACK")
    await store.create(make_call())
    await store.close()


async def test_tables_of_a_later_version_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite3"
    await (await CallStore.open(f"sqlite:///{path}")).close()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE schema_version SET version = 99")
        other.commit()
    with pytest.raises(StorageError, match="has tables of version 99; this program knows version 8"):
        await CallStore.open(f"sqlite:///{path}")


# The tables as version 1 made them, with a call in them.
VERSION_1 = """
CREATE TABLE schema_version (version INTEGER NOT NULL, applied_at {time} NOT NULL, PRIMARY KEY (version));
CREATE TABLE calls (
    id VARCHAR(64) NOT NULL, direction VARCHAR(16) NOT NULL, agent_id VARCHAR(128) NOT NULL,
    from_number VARCHAR(128) NOT NULL, to_number VARCHAR(128) NOT NULL, state VARCHAR(16) NOT NULL,
    created_at {time} NOT NULL, call_control_id TEXT, call_session_id TEXT, answered_at {time},
    ended_at {time}, hangup_cause TEXT, hangup_source TEXT, error TEXT, variables JSON NOT NULL,
    idempotency_key VARCHAR(255), PRIMARY KEY (id), UNIQUE (call_control_id), UNIQUE (idempotency_key));
CREATE TABLE turns (
    call_id VARCHAR(64) NOT NULL, "index" INTEGER NOT NULL, role VARCHAR(16) NOT NULL, text TEXT NOT NULL,
    heard_text TEXT NOT NULL, started_ms FLOAT NOT NULL, ended_ms FLOAT NOT NULL, node_id TEXT,
    via VARCHAR(16) NOT NULL, interrupted BOOLEAN NOT NULL, route TEXT, timings JSON NOT NULL,
    PRIMARY KEY (call_id, "index"), FOREIGN KEY(call_id) REFERENCES calls (id) ON DELETE CASCADE);
INSERT INTO schema_version VALUES (1, '2026-02-01 00:00:00');
INSERT INTO calls VALUES ('call-1', 'inbound', 'front-desk', '+15550100001', '+15550100002', 'ringing',
    '2026-03-01 12:00:01.123456', 'v3:control-1', 'session-1', NULL, NULL, NULL, NULL, NULL,
    '{{"name": "Zoë"}}', NULL);
INSERT INTO turns VALUES ('call-1', 0, 'agent', 'Good morning, how can I help?', 'Good morning,', 120.5,
    1500.25, 'greeting', 'speech', true, 'sesame_ws', '{{"caller_speech_ended_ms": 1.5, "heard_ms": 210.0}}')
"""


async def _make_version_1(url: str) -> None:
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True)
        with contextlib.closing(sqlite3.connect(path)) as old:
            old.executescript(VERSION_1.format(time="DATETIME"))
            old.commit()
    else:
        import asyncpg

        connection = await asyncpg.connect(url)
        await connection.execute("SET TIME ZONE 'UTC'")
        await connection.execute(VERSION_1.format(time="TIMESTAMP WITH TIME ZONE"))
        await connection.close()


async def test_tables_of_version_1_are_brought_up_to_date(url: str) -> None:
    if url == "sqlite://":
        pytest.skip("a database in memory has no past")
    await _make_version_1(url)

    # Several at once: one of them upgrades, the others find it done.
    stores = await asyncio.gather(*(CallStore.open(url) for _ in range(3)))

    before = make_turn(0, spoken=())
    old = make_call(call_leg_id=None)
    assert await stores[0].get("call-1") == dataclasses.replace(old, turns=(before,))
    await stores[0].add_turn("call-1", make_turn(1))
    await stores[0].add_tool("call-1", make_tool())
    await stores[0].keep_recording("call-1", CallRecording("started", NOON))
    await stores[0].update("call-1", call_leg_id="leg-1", nodes=("greeting", "bye"))
    assert await stores[1].get("call-1") == make_call(
        nodes=("greeting", "bye"),
        turns=(before, make_turn(1)),
        tools=(make_tool(),),
        recordings=(CallRecording("started", NOON),),
    )
    await stores[2].create(make_call(2, from_number=SIP_ADDRESS))
    for store in stores:
        await store.close()
    again = await CallStore.open(url)
    await again.ping()
    await again.close()


async def test_words_spoken_as_a_later_version_tells_them(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite3"
    store = await CallStore.open(f"sqlite:///{path}")
    await store.create(make_call(turns=(make_turn(),)))
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("""UPDATE turns SET spoken = '[{"route": "telnyx", "text": "Hi", "mood": "blue"}]'""")
        other.commit()
    call = await store.get("call-1")
    assert call is not None and call.turns[0].spoken == (SpokenBy("telnyx", "Hi"),)
    await store.close()


async def test_timings_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite3"
    store = await CallStore.open(f"sqlite:///{path}")
    await store.create(make_call(turns=(make_turn(),)))
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("""UPDATE turns SET timings = '{"heard_ms": 9.0, "smelled_ms": 1.0}'""")
        other.commit()
    call = await store.get("call-1")
    assert call is not None and call.turns[0].timings == TurnTimings(heard_ms=9.0)
    await store.close()


async def test_sqlite_readers_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite3"
    store = await CallStore.open(f"sqlite:///{path}")
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        assert await store.list() == []
    await store.close()
