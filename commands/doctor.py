"""`doctor`: what is well and what is not; `--repair` makes the catalog anew from the files."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from temporalio.client import Client, WorkflowFailureError

from activities.checks import CheckState
from activities.checkup import Checkup, Health
from activities.starts import as_ours, start_adopting
from commands.reach import Reach, reach
from streamvault.contracts import ADOPT_ID, Adopted
from streamvault.embedded.runfile import Running
from streamvault.settings import Settings, stable_host_id

COLOURS = {CheckState.ERROR: "red", CheckState.WARNING: "yellow", CheckState.OK: "green"}


async def doctor(settings: Settings, running: Running, *, repair: bool) -> bool:
    """Print each check; whether nothing is in error. Raises DependencyUnavailable."""
    async with reach(settings, running) as there:
        health = await _look(there)
        _print(health)
        if repair:
            _print_adopted(await _adopt(there))
    return health.status != "down"


async def _look(there: Reach) -> Health:
    async def client() -> Client:
        return there.client

    return await Checkup(there.settings, there.db, client).health()


async def _adopt(there: Reach) -> Adopted:
    await start_adopting(there.client, stable_host_id(there.settings))
    handle = there.client.get_workflow_handle(ADOPT_ID, result_type=Adopted)
    try:
        found: Adopted = await handle.result()
    except WorkflowFailureError as error:
        raise as_ours(error) from None
    return found


def _print(health: Health) -> None:
    table = Table("check", "", "what was found", "what to do")
    for finding in health.findings:
        check = finding.check
        colour = COLOURS.get(check.state, "dim")
        table.add_row(
            check.name, f"[{colour}]{check.state}[/]", escape(check.note), escape(check.hint)
        )
    console = Console()
    console.print(table)
    console.print(f"all in all: {health.status}")


def _print_adopted(adopted: Adopted) -> None:
    console = Console()
    console.print(
        f"library: {adopted.added} added, {adopted.moved} found elsewhere, "
        f"{adopted.taken_up} to be made from their parts, {adopted.known} known before"
    )
    for line in adopted.missing:
        console.print(f"  file missing: {escape(line)}")
    for line in adopted.problems:
        console.print(f"  [red]not adopted:[/] {escape(line)}")
