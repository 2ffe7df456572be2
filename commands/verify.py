"""`verify ID`: a finished recording against its report."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from temporalio.client import WorkflowFailureError

from activities.starts import as_ours, start_verifying
from commands.reach import reach
from streamvault.contracts import Verified, verify_workflow_id
from streamvault.db import recordings
from streamvault.embedded.runfile import Running
from streamvault.settings import Settings, stable_host_id


async def verify(settings: Settings, running: Running, recording_id: str) -> bool:
    """Print each check; whether all passed. Raises NotFound, Conflict, DependencyUnavailable."""
    async with reach(settings, running) as there:
        async with there.db.begin() as session:
            row = await recordings.get_recording(session, recording_id)
        workflow_id = verify_workflow_id(str(row.id))
        await start_verifying(there.client, row, stable_host_id(settings))
        handle = there.client.get_workflow_handle(workflow_id, result_type=Verified)
        try:
            found: Verified = await handle.result()
        except WorkflowFailureError as error:
            raise as_ours(error) from None
    _print(found)
    return found.ok


def _print(found: Verified) -> None:
    table = Table("check", "", "what was found")
    for check in found.checks:
        table.add_row(check.name, "ok" if check.passed else "[red]differs[/]", check.note)
    console = Console()
    console.print(table)
    bad = [check for check in found.checks if not check.passed]
    console.print("as recorded" if not bad else f"{len(bad)} of {len(found.checks)} checks differ")
