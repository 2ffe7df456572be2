from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message

from api.files import open_beneath
from streamvault.db import captured, recordings
from streamvault.db.session import Database
from streamvault.errors import NotFound
from streamvault.hls.records import Ended, PartOpened, Record, SegmentStored, encode

from .conftest import Opened
from .serving import served

MOVIE = bytes(range(256)) * 40  # 10,240 bytes; each byte tells its place
STEM = "Alice/Season 2026/Alice - S2026E112501 - Größe 100% #1"
WORK = "Alice/Season 2026/.streamvault/x"


JOURNAL = b"".join(
    encode(record)
    for record in (
        PartOpened(1, "ts", 0.0, "start"),
        SegmentStored(0, 188, 0, 1, None, 2.0, False),
    )
)


@pytest.fixture
async def media(library: Path, opened: Opened) -> str:
    """The address of a finished recording that still has its parts."""
    files = {
        f"{STEM}.mp4": MOVIE,
        f"{STEM}-poster.jpg": b"\xff\xd8jpeg",
        f"{STEM}.chapters.vtt": b"WEBVTT\n",
        f"{WORK}/storyboard.vtt": b"WEBVTT\n",
        f"{WORK}/storyboard-001.webp": b"RIFF",
        f"{WORK}/part-0001.ts": b"\x47" * 188,
        f"{WORK}/journal.jsonl": JOURNAL,
    }
    for name, content in files.items():
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_bytes(content)
    recording_id = await opened(path=f"{STEM}.mp4", directory=WORK, size_bytes=188)
    return f"/api/recordings/{recording_id}"


async def test_the_whole_file(client: httpx.AsyncClient, media: str) -> None:
    answer = await client.get(f"{media}/media")
    assert answer.status_code == 200
    assert answer.content == MOVIE
    headers = answer.headers
    assert headers["content-type"] == "video/mp4"
    assert headers["accept-ranges"] == "bytes"
    assert headers["content-length"] == "10240"
    assert headers["content-disposition"].startswith("inline; filename*=utf-8''Alice")
    assert headers["content-security-policy"].startswith(
        "sandbox allow-same-origin; default-src 'none'"
    )
    saved = await client.get(f"{media}/media?download=true")
    assert saved.headers["content-disposition"].startswith("attachment;")


async def test_who_is_just_being_sent_a_file_gets_it_to_the_end(
    app: FastAPI, opened: Opened, library: Path
) -> None:
    """Though it is deleted meanwhile. Row F45."""
    content = os.urandom(1 << 20) * 48
    film = library / "film.mp4"
    film.write_bytes(content)
    recording_id = await opened(path=film.name)
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        where = f"/api/recordings/{recording_id}/media"
        async with client.stream("GET", where) as answer:
            chunks = answer.aiter_raw()
            got = await anext(chunks)
            film.unlink()
            got += b"".join([chunk async for chunk in chunks])
        assert got == content
        assert (await client.get(where)).status_code == 404


async def test_a_range(client: httpx.AsyncClient, media: str) -> None:
    for asked, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=10000-", 10000, 10239),
        ("bytes=-100", 10140, 10239),
        ("bytes=10000-99999", 10000, 10239),
        ("bytes=0-", 0, 10239),
    ):
        for method in ("GET", "HEAD"):
            answer = await client.request(method, f"{media}/media", headers={"Range": asked})
            assert answer.status_code == 206
            assert answer.headers["content-range"] == f"bytes {first}-{last}/10240"
            assert answer.headers["content-length"] == str(last - first + 1)
            assert answer.content == (MOVIE[first : last + 1] if method == "GET" else b"")


async def test_several_ranges_at_once(client: httpx.AsyncClient, media: str) -> None:
    answer = await client.get(f"{media}/media", headers={"Range": "bytes=0-1,100-101"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")
    assert b"\r\n\r\n\x00\x01\r\n" in answer.content
    assert b"\r\n\r\n\x64\x65\r\n" in answer.content


async def test_a_range_behind_the_end_is_a_problem(client: httpx.AsyncClient, media: str) -> None:
    answer = await client.get(f"{media}/media", headers={"Range": "bytes=10240-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */10240"
    assert answer.json()["status"] == 416
    assert answer.headers["content-type"] == "application/problem+json"


async def test_if_range_and_if_none_match(client: httpx.AsyncClient, media: str) -> None:
    where = f"{media}/media"
    tag = (await client.head(where)).headers["etag"]
    part = {"Range": "bytes=0-9"}
    assert (await client.get(where, headers={**part, "If-Range": tag})).status_code == 206
    other = await client.get(where, headers={**part, "If-Range": '"other"'})
    assert (other.status_code, len(other.content)) == (200, 10240)
    for known in (tag, f"W/{tag}", f'"a", {tag}', "*"):
        answer = await client.get(where, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    assert (await client.get(where, headers={"If-None-Match": '"a"'})).status_code == 200


async def test_a_changed_file_has_another_tag(
    client: httpx.AsyncClient, media: str, library: Path
) -> None:
    before = (await client.head(f"{media}/media")).headers["etag"]
    (library / f"{STEM}.mp4").write_bytes(MOVIE + b"more")
    assert (await client.head(f"{media}/media")).headers["etag"] != before


async def test_pictures_chapters_and_parts(client: httpx.AsyncClient, media: str) -> None:
    for name, media_type in {
        "poster.jpg": "image/jpeg",
        "chapters.vtt": "text/vtt; charset=utf-8",
        "storyboard.vtt": "text/vtt; charset=utf-8",
        "storyboard-001.webp": "image/webp",
        "parts/part-0001.ts": "video/mp2t",
    }.items():
        answer = await client.get(f"{media}/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == media_type
        head = await client.head(f"{media}/{name}")
        assert head.headers["content-length"] == str(len(answer.content))


async def test_of_a_part_only_what_the_journal_knows_is_shown(
    client: httpx.AsyncClient, media: str, library: Path
) -> None:
    """Behind it is a segment that is just being written, or what a crash left of one."""
    with (library / WORK / "part-0001.ts").open("ab") as part:
        part.write(b"\xff" * 500)
    address = f"{media}/parts/part-0001.ts"
    assert (await client.get(address)).content == b"\x47" * 188
    tail = await client.get(address, headers={"Range": "bytes=100-400"})
    assert (tail.status_code, len(tail.content)) == (206, 88)
    behind = await client.get(address, headers={"Range": "bytes=188-200"})
    assert behind.status_code == 416


@pytest.mark.parametrize("what", ["parts/part-0001.ts", "media"])
async def test_what_somebody_plays_is_kept(
    client: httpx.AsyncClient, media: str, db: Database, what: str
) -> None:
    recording_id = media.rpartition("/")[2]
    async with db.begin() as session:
        assert (await recordings.get_recording(session, recording_id)).watched_at is None
    await client.get(f"{media}/{what}")
    async with db.begin() as session:
        assert (await recordings.get_recording(session, recording_id)).watched_at is not None


async def test_no_descriptor_stays_open(client: httpx.AsyncClient, media: str) -> None:
    def is_open() -> int:
        found = 0
        for fd in Path("/proc/self/fd").iterdir():
            try:
                found += fd.readlink().name.startswith("Alice - S2026")
            except FileNotFoundError:
                continue
        return found

    for headers in ({}, {"Range": "bytes=0-1"}, {"Range": "bytes=99999-"}, {"If-None-Match": "*"}):
        await client.get(f"{media}/media", headers=headers)
        await client.head(f"{media}/media", headers=headers)
    assert is_open() == 0


async def test_what_is_not_there_yet_says_so(client: httpx.AsyncClient, opened: Opened) -> None:
    where = f"/api/recordings/{await opened()}"
    names = ("media", "poster.jpg", "chapters.vtt", "storyboard.vtt", "playlist.m3u8")
    for name in names:
        assert (await client.get(f"{where}/{name}")).status_code == 404


async def test_a_file_that_was_moved_away_is_a_404(
    client: httpx.AsyncClient, media: str, library: Path
) -> None:
    (library / f"{STEM}.mp4").unlink()
    answer = await client.get(f"{media}/media")
    assert answer.status_code == 404
    assert "outside StreamVault" in answer.json()["hint"]


ESCAPES = [
    "../secret",
    "..%2fsecret",
    "%2e%2e%2fsecret",
    "%252e%252e%252fsecret",
    "..%5csecret",
    "..%c0%afsecret",
    "%00secret",
    "part-0001.ts%00",
    "part-0001.ts%0a",
    "part-0001.ts/..",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "C:%5cWindows",
    "..%ef%bc%8fsecret",
    "part-0001.ts.",
    "part-0001.ts%20",
    "x" * 300,
    "journal.jsonl",
    "PART-0001.TS",
]


async def raw_get(app: FastAPI, target: str) -> tuple[int, bytes]:
    """A request whose path is sent as it stands, decoded as uvicorn does; httpx would tidy it."""
    received: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        received.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(target),
        "raw_path": target.encode("latin-1"),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1")],
    }
    await app(scope, receive, send)
    return received[0]["status"], b"".join(message.get("body", b"") for message in received[1:])


async def test_names_that_try_to_leave_find_nothing(
    app: FastAPI, media: str, library: Path
) -> None:
    for folder in (library, library.parent, library / WORK, (library / WORK).parent):
        (folder / "secret").write_bytes(b"do not read")
    for name in ESCAPES:
        for folder in ("parts/", "storyboard-", ""):
            status, body = await raw_get(app, f"{media}/{folder}{name}")
            assert 400 <= status < 500, name
            assert b"do not read" not in body


async def test_a_path_in_the_database_cannot_leave_either(
    client: httpx.AsyncClient, library: Path, opened: Opened
) -> None:
    (library.parent / "f").write_bytes(b"outside")
    (library / "link").symlink_to(library.parent)
    for number, path in enumerate(
        ["../f", "a/../../f", "/etc/passwd", "", ".", "..", "a//b", "link/f"]
    ):
        recording_id = await opened(f"k{number}", path=path)
        answer = await client.get(f"/api/recordings/{recording_id}/media")
        assert answer.status_code == 404, path
        with pytest.raises(NotFound):
            open_beneath(library, path)


def test_links_folders_and_pipes_are_no_files(tmp_path: Path) -> None:
    root = tmp_path / "library"
    (root / "folder").mkdir(parents=True)
    (root / "file").write_bytes(b"x")
    (root / "link").symlink_to(root / "file")
    (root / "up").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(root / "pipe")
    os.close(open_beneath(root, "file"))
    for name in ("folder", "link", "up/library/file", "pipe", "missing", "file/x", "x" * 300):
        with pytest.raises(NotFound):
            open_beneath(root, name)


def test_a_link_put_in_place_at_the_wrong_moment_leaks_nothing(tmp_path: Path) -> None:
    root = tmp_path / "library"
    (root / "a").mkdir(parents=True)
    (root / "a" / "f").write_bytes(b"inside")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "f").write_bytes(b"outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (root / "a").rename(root / "kept")
            (root / "a").symlink_to(tmp_path / "b")
            (root / "a").unlink()
            (root / "kept").rename(root / "a")

    thread = threading.Thread(target=swap)
    thread.start()
    read = set()
    try:
        for _ in range(5_000):
            try:
                fd = open_beneath(root, "a/f")
            except NotFound:
                continue
            read.add(os.read(fd, 100))
            os.close(fd)
    finally:
        stop.set()
        thread.join()
    assert read == {b"inside"}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(["..", ".", "", "a", "f", "\0", "link", "ÿ", "\ud800"]), max_size=6)
)
def test_no_path_leaves_the_root(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    base = tmp_path_factory.getbasetemp() / "rooted"
    root = base / "library"
    if not root.exists():
        (root / "a").mkdir(parents=True)
        (root / "a" / "f").write_bytes(b"inside")
        (root / "f").write_bytes(b"inside")
        (base / "f").write_bytes(b"outside")
        (root / "link").symlink_to(base)
    try:
        fd = open_beneath(root, "/".join(names))
    except NotFound:
        return
    assert os.read(fd, 100) == b"inside"
    os.close(fd)


# ---- the playlist


def segment(number: int, offset: int, length: int, duration_s: float = 6.0) -> SegmentStored:
    return SegmentStored(
        offset=offset,
        length=length,
        crc=0,
        sequence=number,
        date=None,
        duration_s=duration_s,
        discontinuity=False,
    )


def journal(*records: Record) -> bytes:
    return b"".join(encode(record) for record in records)


FIRST = journal(PartOpened(number=1, ext="ts", at=0.0, why="start"), segment(1, 0, 100))
SECOND = journal(segment(2, 100, 50))
END = journal(Ended(at=0.0, why="ended"))


@pytest.fixture
async def growing(library: Path, opened: Opened) -> tuple[str, Path]:
    folder = library / WORK
    folder.mkdir(parents=True)
    recording_id = await opened(directory=WORK, size_bytes=1)
    return f"/api/recordings/{recording_id}/playlist.m3u8", folder / "journal.jsonl"


def entries(text: str) -> list[str]:
    return [line for line in text.splitlines() if "BYTERANGE" in line or "part-" in line]


async def test_the_playlist_grows_and_ends(
    client: httpx.AsyncClient, growing: tuple[str, Path]
) -> None:
    where, path = growing
    path.write_bytes(FIRST[:-5])
    assert (await client.get(where)).status_code == 404

    path.write_bytes(FIRST + SECOND[:-3])
    first = await client.get(where)
    assert first.headers["content-type"] == "application/vnd.apple.mpegurl"
    assert "#EXT-X-PLAYLIST-TYPE:EVENT" in first.text
    assert entries(first.text) == ["#EXT-X-BYTERANGE:100@0", "parts/part-0001.ts"]
    assert "#EXT-X-ENDLIST" not in first.text

    path.write_bytes(FIRST + SECOND + END)
    last = await client.get(where)
    assert last.text.startswith(first.text)
    assert entries(last.text)[2:] == ["#EXT-X-BYTERANGE:50@100", "parts/part-0001.ts"]
    assert last.text.endswith("#EXT-X-ENDLIST\n")


async def test_the_playlist_is_compressed_and_tagged(
    client: httpx.AsyncClient, growing: tuple[str, Path]
) -> None:
    where, path = growing
    path.write_bytes(FIRST)
    plain = await client.get(where, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    async with client.stream("GET", where, headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])
        assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content

    known = {"If-None-Match": plain.headers["etag"]}
    assert (await client.get(where, headers=known)).status_code == 304
    path.write_bytes(FIRST + SECOND)
    assert (await client.get(where, headers=known)).status_code == 200


async def test_a_journal_cut_by_a_recovery_is_read_anew(
    client: httpx.AsyncClient, growing: tuple[str, Path]
) -> None:
    where, path = growing
    path.write_bytes(FIRST + SECOND)
    await client.get(where)
    other = journal(segment(2, 100, 77), segment(3, 177, 10))
    path.write_bytes(FIRST + other)
    assert entries((await client.get(where)).text)[::2] == [
        "#EXT-X-BYTERANGE:100@0",
        "#EXT-X-BYTERANGE:77@100",
        "#EXT-X-BYTERANGE:10@177",
    ]


async def test_without_parts_the_playlist_points_to_the_file(
    client: httpx.AsyncClient, media: str, db: Database, opened: Opened
) -> None:
    recording_id = await opened("gone", path=f"{STEM}.mp4", directory=WORK, size_bytes=1)
    where = f"/api/recordings/{recording_id}"
    async with db.begin() as session:
        await captured.mark_parts_gone(session, recording_id)
    for name in ("playlist.m3u8", "parts/part-0001.ts"):
        answer = await client.get(f"{where}/{name}")
        assert answer.status_code == 410
        assert answer.json()["action"]["href"] == f"{where}/media"
        assert answer.headers["link"] == f'<{where}/media>; rel="alternate"'
    assert (await client.get(answer.json()["action"]["href"])).status_code == 200
