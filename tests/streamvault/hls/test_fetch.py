from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.origin import make_certificate
from streamvault.errors import FetchFailed
from streamvault.hls.fetch import Fetcher

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serve(answer: Answer, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """One connection may bring several requests; `answer` gets each head."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await answer(head, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    fetcher = Fetcher()
    yield fetcher
    await fetcher.aclose()


def reply(status: int, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def fixed(answer: bytes) -> Answer:
    async def write(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        if b"Connection: close" in answer:
            writer.close()

    return write


async def test_a_text_comes_with_its_final_address(fetcher: Fetcher) -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        if b" /old " in head:
            writer.write(reply(302, b"moved", "Location: /new/live.m3u8?token=1"))
        else:
            writer.write(reply(200, b"#EXTM3U"))

    async with serve(answer) as port:
        page = await fetcher.get_text(f"http://127.0.0.1:{port}/old")
    assert (page.text, page.status) == ("#EXTM3U", 200)
    assert page.url == f"http://127.0.0.1:{port}/new/live.m3u8?token=1"


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (reply(404, b"gone"), 404, "127.0.0.1 answered 404"),
        (reply(500, b"x" * 100_000), 500, "127.0.0.1 answered 500"),
        (reply(200, b"half", "Connection: close", length=8), 0, "127.0.0.1: "),
        (reply(200, b"x" * 2000), 0, "127.0.0.1 sends more than 1,000 bytes"),
        (reply(302, b"", "Location: file:///etc/passwd"), 0, "127.0.0.1: "),
        (reply(302, b"", "Location: /again"), 0, "127.0.0.1: "),
    ],
    ids=["404", "large 500", "short", "too large", "redirect to a file", "endless redirect"],
)
async def test_failures_name_the_host_and_never_the_address(
    fetcher: Fetcher, answer: bytes, status: int, text: str
) -> None:
    async with serve(fixed(answer)) as port:
        url = f"http://127.0.0.1:{port}/secret/path?sig=secret"
        with pytest.raises(FetchFailed) as caught:
            await fetcher.get_text(url, max_bytes=1000)
    assert caught.value.status == status
    assert str(caught.value).startswith(text)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/"])
async def test_only_http_and_https_are_spoken(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(FetchFailed, match=r"disabled|not supported"):
        await fetcher.get_text(url)


async def test_a_silent_server_is_given_up(fetcher: Fetcher) -> None:
    async def hang(_head: bytes, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    async with serve(hang) as port:
        with pytest.raises(FetchFailed, match="timed out"):
            await fetcher.get_text(f"http://127.0.0.1:{port}/", timeout_s=0.2)


async def test_nobody_listens(fetcher: Fetcher) -> None:
    async with serve(fixed(b"")) as port:
        pass
    with pytest.raises(FetchFailed) as caught:
        await fetcher.get_text(f"http://127.0.0.1:{port}/")
    assert not caught.value.by_proxy


async def test_a_dead_proxy_is_known_as_the_cause(fetcher: Fetcher) -> None:
    async with serve(fixed(b"")) as port:
        pass
    for scheme in ("http", "socks5h"):
        with pytest.raises(FetchFailed) as caught:
            await fetcher.get_text("http://x.invalid/", proxy=f"{scheme}://127.0.0.1:{port}")
        assert caught.value.by_proxy, scheme


async def test_a_proxy_that_refuses_is_known_as_the_cause(fetcher: Fetcher) -> None:
    async with serve(fixed(reply(407, b""))) as port:
        with pytest.raises(FetchFailed) as caught:
            await fetcher.get_text("https://x.invalid/", proxy=f"http://user:pw@127.0.0.1:{port}")
    assert caught.value.by_proxy
    assert "pw" not in str(caught.value)


async def test_a_sink_that_says_not_now_gets_every_byte_later(fetcher: Fetcher) -> None:
    body = bytes(range(256)) * 2000
    got: list[bytes] = []
    offers = 0

    def sink(pieces: list[bytes], last: bool) -> bool | None:
        nonlocal offers
        offers += 1
        if offers < 3 and not last:
            return False
        got.extend(pieces)
        return None

    async def slowly(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(200, b"", length=len(body)))
        for at in range(0, len(body), 51_200):
            writer.write(body[at : at + 51_200])
            await asyncio.sleep(0.1)

    async with serve(slowly) as port:
        received = await fetcher.get(f"http://127.0.0.1:{port}/", sink)
    assert b"".join(got) == body
    assert received.size_bytes == len(body)
    assert offers > 3


@pytest.mark.parametrize("told", [True, False])
async def test_a_body_without_end_is_cut(fetcher: Fetcher, told: bool) -> None:
    async def pour(_head: bytes, writer: asyncio.StreamWriter) -> None:
        length = "Content-Length: 900000000" if told else "Connection: close"
        writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
        for _ in range(100):
            writer.write(b"x" * 100_000)
            await writer.drain()

    async with serve(pour) as port:
        with pytest.raises(FetchFailed, match="sends more than 1,000,000 bytes"):
            await fetcher.get(
                f"http://127.0.0.1:{port}/", lambda _pieces, _last: None, max_bytes=1_000_000
            )


async def test_a_refused_or_short_segment_says_so(fetcher: Fetcher) -> None:
    got: list[bytes] = []
    for answer, status in (
        (reply(404, b"gone"), 404),
        (reply(200, b"half", "Connection: close", length=8), 0),
    ):
        async with serve(fixed(answer)) as port:
            with pytest.raises(FetchFailed) as caught:
                await fetcher.get(f"http://127.0.0.1:{port}/", lambda p, _: got.extend(p))
        assert caught.value.status == status
    assert got == []


async def test_a_byte_range_is_asked_for_and_must_be_given(fetcher: Fetcher) -> None:
    heads: list[bytes] = []

    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        writer.write(reply(206 if len(heads) == 1 else 200, b"abc"))

    async with serve(answer) as port:
        got: list[bytes] = []
        url = f"http://127.0.0.1:{port}/"
        await fetcher.get(url, lambda p, _: got.extend(p), byte_range=(10, 3))
        with pytest.raises(FetchFailed, match="ignores byte ranges"):
            await fetcher.get(url, lambda p, _: got.extend(p), byte_range=(10, 3))
    assert b"\r\nRange: bytes=10-12\r\n" in heads[0]
    assert b"".join(got) == b"abc"


async def test_what_one_request_asked_for_does_not_go_over_to_the_next(fetcher: Fetcher) -> None:
    heads: list[bytes] = []

    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        writer.write(reply(206 if b"Range:" in head else 200, b"abc"))

    async with serve(answer) as port:
        url = f"http://127.0.0.1:{port}/"
        for headers, byte_range in (({"X-One": "1"}, (10, 3)), (None, None), (None, (0, 3))):
            received = await fetcher.get(
                url, lambda _pieces, _last: None, headers=headers, byte_range=byte_range
            )
            assert received.size_bytes == 3
        await fetcher.get_text(url, headers={"X-Two": "2"})
        assert (await fetcher.get_text(url)).text == "abc"
    asked = [[name for name in (b"X-One", b"X-Two", b"Range") if name in head] for head in heads]
    assert asked == [[b"X-One", b"Range"], [], [b"Range"], [b"X-Two"], []]


async def test_connections_are_used_again_also_after_an_error(fetcher: Fetcher) -> None:
    connections = set()

    async def answer(_head: bytes, writer: asyncio.StreamWriter) -> None:
        connections.add(writer.get_extra_info("peername"))
        writer.write(reply(404 if len(connections) < 1 else 200, b"x"))

    async with serve(answer) as port:
        for _ in range(5):
            await fetcher.get_text(f"http://127.0.0.1:{port}/")
    assert len(connections) == 1


async def test_a_cancelled_transfer_leaves_the_fetcher_usable(fetcher: Fetcher) -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        if b" /slow " in head:
            await asyncio.sleep(5)
        writer.write(reply(200, b"ok"))

    async with serve(answer) as port:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fetcher.get_text(f"http://127.0.0.1:{port}/slow"), 0.1)
        assert (await fetcher.get_text(f"http://127.0.0.1:{port}/")).text == "ok"


async def test_an_extra_authority_is_added_and_others_stay_refused(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, tmp_path / "key.pem")
    async with serve(fixed(reply(200, b"ok")), context) as port:
        url = f"https://127.0.0.1:{port}/"
        trusting, strict = Fetcher(certificate, tmp_path), Fetcher()
        assert (await trusting.get_text(url)).text == "ok"
        with pytest.raises(FetchFailed, match="certificate"):
            await strict.get_text(url)
        combined = Path(trusting._authorities.path)
        system = Path(strict._authorities.path)
        assert combined.read_bytes().startswith(system.read_bytes())
        await trusting.aclose()
        await strict.aclose()
    assert system.exists()
