"""`process ID`: run steps of a recording again."""

from __future__ import annotations

from temporalio.client import WorkflowFailureError

from activities.starts import start_processing
from commands.reach import reach
from streamvault.contracts import PROCESSING_STEPS, processing_workflow_id
from streamvault.db import recordings
from streamvault.embedded.runfile import Running
from streamvault.errors import InvalidInput, MediaError
from streamvault.settings import Settings, stable_host_id


async def process(
    settings: Settings, running: Running, recording_id: str, steps: list[str]
) -> None:
    """Wait until the steps are done. Raises MediaError when one was given up."""
    unknown = [step for step in steps if step not in PROCESSING_STEPS]
    if unknown:
        known = ", ".join(PROCESSING_STEPS)
        raise InvalidInput(f"--steps takes {known}, not {', '.join(unknown)}")
    async with reach(settings, running) as there:
        async with there.db.begin() as session:
            row = await recordings.get_recording(session, recording_id)
        await start_processing(there.client, row, stable_host_id(settings), steps or None)
        handle = there.client.get_workflow_handle(processing_workflow_id(recording_id))
        try:
            await handle.result()
        except WorkflowFailureError as error:
            raise MediaError(str(error.cause)) from None
