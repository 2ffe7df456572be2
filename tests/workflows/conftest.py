from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.workflows.stage import Stage, staged

SAVE = "--save-histories"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        SAVE, action="store_true", help="write tests/data/histories anew from the runs of the tests"
    )


@pytest.fixture
def save_histories(pytestconfig: pytest.Config) -> bool:
    # The option is there only when pytest was given this folder.
    return bool(pytestconfig.getoption(SAVE, default=False))


@pytest.fixture
async def stage(temporal_dev: WorkflowEnvironment, save_histories: bool) -> AsyncIterator[Stage]:
    """Real time: for what happens while something is being recorded."""
    async with staged(temporal_dev, save_histories=save_histories) as stage:
        yield stage


@pytest.fixture
async def skipping(
    temporal_skipping: WorkflowEnvironment, save_histories: bool
) -> AsyncIterator[Stage]:
    """Skipped time: back-off and days of waiting pass at once, but only while a test sleeps or
    waits for a result."""
    async with staged(temporal_skipping, save_histories=save_histories) as stage:
        yield stage
