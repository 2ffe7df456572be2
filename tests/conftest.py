"""Real servers for the tests: PostgreSQL and Temporal, each once per xdist worker."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.common import SearchAttributeKey
from temporalio.testing import WorkflowEnvironment

from streamvault.db.migrate import upgrade
from streamvault.embedded.background import Background
from streamvault.embedded.binaries import find_temporal
from streamvault.embedded.postgres import Postgres
from tests.fake_twitch.fixture import fake_twitch

__all__ = ["fake_twitch"]

SEARCH_ATTRIBUTES: list[SearchAttributeKey[Any]] = [
    SearchAttributeKey.for_keyword("SvStreamer"),
    SearchAttributeKey.for_keyword("SvStage"),
    SearchAttributeKey.for_keyword("SvHost"),
    SearchAttributeKey.for_bool("SvNeedsAttention"),
]
_TEMPLATE = "sv_template"


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A short path that PostgreSQL's own account can enter, which pytest's tmp_path is not."""
    folder = Path(tempfile.mkdtemp(prefix="sv-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(server_folder: Path) -> Iterator[Postgres]:
    """A running server without fsync. Its database `sv_template` holds the migrated schema."""
    server = Postgres(server_folder / "database", fast=True)
    with Background(server, server_folder / "postgres.log"):
        server.query(f"CREATE DATABASE {_TEMPLATE}", "postgres")
        asyncio.run(upgrade(server.url(_TEMPLATE)))
        yield server


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    """A fresh database with the whole schema."""
    name = f"t_{uuid.uuid4().hex}"
    postgres.query(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY FILE_COPY", "postgres")
    yield postgres.url(name)
    postgres.query(f"DROP DATABASE {name} WITH (FORCE)", "postgres")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def temporal_dev() -> AsyncIterator[WorkflowEnvironment]:
    """The real server in real time."""
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(find_temporal()),
        search_attributes=SEARCH_ATTRIBUTES,
        dev_server_log_level="error",
    ) as environment:
        yield environment


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def temporal_skipping() -> AsyncIterator[WorkflowEnvironment]:
    """The test server, which skips the time in which nothing but timers runs."""
    server = Path(sys.executable).with_name("temporal-test-server")
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(server)
    ) as environment:
        await environment.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace="default",
                search_attributes={
                    k.name: IndexedValueType.ValueType(k.indexed_value_type)
                    for k in SEARCH_ATTRIBUTES
                },
            )
        )
        yield environment


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of faults: what each cost, and what the report says that it cost."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, [])]
    lines = [
        str(text)
        for report in reports
        for name, text in getattr(report, "user_properties", [])
        if name == "fault" and report.when == "call"
    ]
    if lines:
        terminalreporter.section("faults")
        for line in sorted(lines):
            terminalreporter.write_line(line)
