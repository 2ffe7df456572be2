"""Histories of real runs replay with today's workflows.

Made by `pytest tests/workflows --save-histories`. A changed order of commands belongs behind
`workflow.patched`; the histories of a release are then kept beside the new ones.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from tests.workflows.stage import HISTORIES, PROCESS
from workflows.deliver_notification import DeliverNotification
from workflows.process_recording import ProcessRecording
from workflows.record_stream import RecordStream

CASES = {
    "record_stream": {
        *("happy", "stopped", "cancelled", "restarted", "recorded_again", "drained", "offline"),
        *("recorder_gone", "parked_retried", "room_again", "given_up", "remux_given_up"),
    },
    "process_recording": {
        *("happy", "parked_retried", "side_parked_retried", "skipped", "given_up", "cancelled"),
    },
    "deliver_notification": {"happy"},
}
SAVED = sorted(HISTORIES.glob("*.json"))


def history(text: str) -> WorkflowHistory:
    return WorkflowHistory.from_json("replayed", text)


@pytest.fixture(scope="module")
def replayer() -> Replayer:
    return Replayer(workflows=[RecordStream, ProcessRecording, DeliverNotification])


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
async def test_a_saved_history_replays(replayer: Replayer, path: Path) -> None:
    text = await asyncio.to_thread(path.read_text)
    await replayer.replay_workflow(history(text))


def test_every_case_is_saved() -> None:
    """Those of older releases carry a suffix: `record_stream-happy@0.1`."""
    wanted = {f"{workflow}-{case}" for workflow, cases in CASES.items() for case in cases}
    assert {path.stem.split("@")[0] for path in SAVED} == wanted


async def test_a_changed_order_of_commands_is_noticed(replayer: Replayer) -> None:
    """The replay can fail: here the history says that `claim` came before `detect`."""
    text = await asyncio.to_thread((HISTORIES / "record_stream-happy.json").read_text)
    assert text.count('"name": "detect"') == text.count('"name": "claim"') == 1
    swapped = text.replace('"name": "detect"', '"name": "was claim"')
    swapped = swapped.replace('"name": "claim"', '"name": "detect"')
    with pytest.raises(NondeterminismError):
        await replayer.replay_workflow(history(swapped.replace("was claim", "claim")))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_a_saved_history_tells_nothing_of_the_machine_it_ran_on(path: Path) -> None:
    text = path.read_text()
    assert "stackTrace" not in text and PROCESS.search(text) is None
