"""The embedded Temporal: what it has at each start, taken ports, an unreadable file."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client

from streamvault.embedded.background import Background
from streamvault.embedded.temporal import TemporalServer
from streamvault.errors import DependencyUnavailable


async def connect(server: TemporalServer) -> Client:
    return await Client.connect(server.address, namespace="streamvault")


async def test_namespace_retention_search_attributes_and_ui_are_there_when_it_is_ready(
    tmp_path: Path,
) -> None:
    server = TemporalServer(tmp_path)
    with Background(server, tmp_path / "log"):
        client = await connect(server)
        request = DescribeNamespaceRequest(namespace="streamvault")
        described = await client.workflow_service.describe_namespace(request)
        assert described.config.workflow_execution_retention_ttl.ToTimedelta().days == 90
        listed = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace="streamvault")
        )
        assert (
            dict(listed.custom_attributes).items()
            >= {
                "SvStreamer": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
                "SvStage": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
                "SvHost": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
                "SvNeedsAttention": IndexedValueType.INDEXED_VALUE_TYPE_BOOL,
            }.items()
        )
        async with httpx.AsyncClient(trust_env=False) as http:
            page = await http.get(server.ui_url)
            assert page.status_code == 200
            assert 'href="/temporal/' in page.text


async def test_workflows_survive_kill_nine_at_the_same_address(tmp_path: Path) -> None:
    server = TemporalServer(tmp_path)
    with Background(server, tmp_path / "log") as process:
        before = server.address
        client = await connect(server)
        await client.start_workflow("Waiting", id="waits", task_queue="nobody-listens")
        process.kill()
        process.start()
        assert server.address == before
        described = await (await connect(server)).get_workflow_handle("waits").describe()
        assert described.status is not None
        assert described.status.name == "RUNNING"


def test_a_taken_port_is_answered_with_other_ports(tmp_path: Path) -> None:
    server = TemporalServer(tmp_path)
    server.prepare()
    taken = int(server.address.rpartition(":")[2])
    background = Background(server, tmp_path / "log")
    with socket.create_server(("127.0.0.1", taken)):
        with pytest.raises(DependencyUnavailable, match="address already in use"):
            background.start()
        with background:
            assert server.address != f"127.0.0.1:{taken}"


def test_an_unreadable_file_is_moved_aside_and_said_so(tmp_path: Path) -> None:
    server = TemporalServer(tmp_path)
    server.prepare()
    server.database.write_bytes(b"this is no database" * 1000)
    background = Background(server, tmp_path / "log")
    with pytest.raises(DependencyUnavailable) as caught:
        background.start()
    (aside,) = server.database.parent.glob("temporal.db.bak-*")
    assert str(aside) in caught.value.hint
    assert aside.read_bytes().startswith(b"this is no database")
    with background:
        assert server.database.exists()
