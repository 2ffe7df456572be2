"""On asyncio's own loop and on uvloop, which the recorder runs on: their timers differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest
import uvloop

from streamvault.errors import FetchFailed
from streamvault.hls.fetch import Fetcher

Loops = Callable[[], asyncio.AbstractEventLoop]
LOOPS = pytest.mark.parametrize("loops", [asyncio.new_event_loop, uvloop.new_event_loop])
DEADLINE_S = 20


def run(loops: Loops, work: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(asyncio.wait_for(work, DEADLINE_S))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """`/<number>` answers with that number of bytes, `/never` not at all."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            name = head.split(b" ")[1].removeprefix(b"/")
            if name != b"never":
                body = bytes(int(name))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def address(server: asyncio.Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@LOOPS
def test_many_transfers_run_side_by_side_and_each_gets_its_own_bytes(loops: Loops) -> None:
    sizes = [0, 1, 16_384, 70_000, 1_500_000] * 8

    async def work() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1") as server:
            fetcher, url = Fetcher(), await address(server)
            for _ in range(2):
                got = await asyncio.gather(
                    *(fetcher.get(f"{url}/{size}", lambda _pieces, _last: None) for size in sizes)
                )
                assert [received.size_bytes for received in got] == sizes
            await fetcher.aclose()

    run(loops, work())


@LOOPS
def test_each_transfer_is_given_up_after_its_own_time(loops: Loops) -> None:
    ended: list[float] = []

    async def work() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1") as server:
            fetcher, url = Fetcher(), await address(server)

            async def wait(timeout_s: float) -> None:
                with pytest.raises(FetchFailed, match="timed out"):
                    await fetcher.get_text(f"{url}/never", timeout_s=timeout_s)
                ended.append(timeout_s)

            # The longest first: a shorter one that comes later must move the timer.
            await asyncio.gather(*(wait(timeout_s) for timeout_s in (1.2, 0.8, 0.4)))
            assert (await fetcher.get_text(f"{url}/3")).text == "\0\0\0"
            await fetcher.aclose()

    run(loops, work())
    assert ended == [0.4, 0.8, 1.2]


@LOOPS
def test_closing_ends_what_is_under_way(loops: Loops) -> None:
    async def work() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1") as server:
            fetcher, url = Fetcher(), await address(server)
            waiting = asyncio.create_task(fetcher.get_text(f"{url}/never", timeout_s=60))
            await fetcher.get_text(f"{url}/1")
            await fetcher.aclose()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await fetcher.aclose()

    run(loops, work())
