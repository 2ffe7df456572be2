"""One scrape shows the API and the workers."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.metrics_page import whole_page
from streamvault.metrics.server import fetch_metrics, serve_metrics


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def counter(name: str, value: float) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter(name, "help", ["kind"], registry=registry).labels("a").inc(value)
    return registry


async def test_series_of_workers_carry_the_name_of_their_process() -> None:
    ports = {"worker-a": free_port(), "worker-b": free_port()}
    servers = [
        await serve_metrics(port, partial(generate_latest, counter("calls", value)))
        for port, value in zip(ports.values(), (2, 3), strict=True)
    ]
    own = counter("calls", 1)
    Gauge("only_here", "help", registry=own).set(7)
    page = (await whole_page(own, ports)).decode()
    for server in servers:
        server.close()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    said = {
        (sample.labels.get("process", ""), sample.value)
        for sample in families["calls"].samples
        if sample.name == "calls_total"
    }
    assert said == {("", 1.0), ("worker-a", 2.0), ("worker-b", 3.0)}
    assert page.count("# TYPE calls_total counter") == 1
    assert [sample.value for sample in families["only_here"].samples] == [7.0]


async def test_a_worker_that_is_away_leaves_the_others() -> None:
    page = await whole_page(counter("calls", 1), {"worker-a": free_port()})
    assert b'calls_total{kind="a"} 1.0' in page


async def test_a_page_in_chunks_is_put_together() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"5\r\nup 1\n\r\n7\r\ndown 0\n\r\n0\r\n\r\n")
        writer.close()

    port = free_port()
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        assert await fetch_metrics(port) == b"up 1\ndown 0\n"


async def test_nonsense_is_answered_by_hanging_up() -> None:
    port = free_port()
    server = await serve_metrics(port, bytes)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x" * 20_000)
    assert await reader.read(-1) == b""
    writer.close()
    server.close()
