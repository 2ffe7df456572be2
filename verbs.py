"""The verbs of the `streamvault` command, as a person types them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

import cli
from streamvault.embedded import runfile
from streamvault.embedded.attach import attached
from streamvault.embedded.demo import Demo
from streamvault.embedded.stack import Stack
from streamvault.errors import Conflict, DependencyUnavailable, SettingsError
from streamvault.settings import PREFIX, load_settings

RESTART_TIMEOUT_S = 300.0  # two workers may each take 120 s to finish what they are at
_LOOK_INTERVAL_S = 0.2

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
db = typer.Typer(no_args_is_help=True, help="The database's schema.")
app.add_typer(db, name="db")


@app.command()
def up() -> None:
    """Run everything; Ctrl-C stops in order, and recordings resume at the next start."""
    cli.run_up()


@app.command()
def record(
    url: Annotated[str, typer.Argument(help="A channel's page, or hls://https://… of a playlist.")],
    quality: Annotated[str, typer.Option(help="best, 1080p60, 720p, audio_only, …")] = "best",
    output: Annotated[Path | None, typer.Option(help="Also put the finished file here.")] = None,
) -> None:
    """Record one live stream and print the finished file; Ctrl-C stops and finishes it."""
    from commands.record import prepare_output
    from commands.record import record as record_stream

    settings = load_settings()
    if output:
        prepare_output(output)
    with attached(settings, cli.CLI) as running:
        asyncio.run(record_stream(settings, running, url, quality, output))


@app.command()
def process(
    recording_id: str,
    steps: Annotated[str, typer.Option(help="Comma-separated; all by default.")] = "",
) -> None:
    """Run processing steps of a recording again."""
    from commands.process import process as process_recording

    settings = load_settings()
    chosen = [step for step in steps.split(",") if step]
    with attached(settings, cli.CLI) as running:
        asyncio.run(process_recording(settings, running, recording_id, chosen))


@app.command()
def verify(recording_id: str) -> None:
    """Check a finished recording against its report again; exit code 1 when it differs."""
    from commands.verify import verify as verify_recording

    settings = load_settings()
    with attached(settings, cli.CLI) as running:
        as_recorded = asyncio.run(verify_recording(settings, running, recording_id))
    raise typer.Exit(0 if as_recorded else 1)


@app.command()
def doctor(
    repair: Annotated[
        bool, typer.Option(help="Also make the catalog anew from the library's files.")
    ] = False,
) -> None:
    """Say what is well, what is not and what to do; exit code 1 when something vital is down."""
    from commands.doctor import doctor as look_at_everything

    settings = load_settings()
    with attached(settings, cli.CLI) as running:
        well = asyncio.run(look_at_everything(settings, running, repair=repair))
    raise typer.Exit(0 if well else 1)


@app.command()
def demo() -> None:
    """Run everything in a throw-away folder, recording two streams of a fake Twitch."""
    with Demo(cli.CLI.parent) as made, runfile.only_supervisor(made.data_dir):
        stack = Stack(made.settings(), cli.CLI, made.env)
        cli.supervise(stack, stack.stages(beside=[made]), lambda: made.begin(stack))


@app.command()
def restart() -> None:
    """Swap the processes of a running `up` for the code that is on disk now; recordings go on."""
    data_dir = load_settings().data_dir.absolute()
    before = _running(data_dir)
    os.kill(before.pid, signal.SIGUSR1)
    deadline = time.monotonic() + RESTART_TIMEOUT_S
    while time.monotonic() < deadline:
        time.sleep(_LOOK_INTERVAL_S)
        if _running(data_dir).generation > before.generation:
            typer.echo("restarted")
            return
    raise DependencyUnavailable("the restart did not finish", hint="look at the output of `up`")


@app.command()
def api() -> None:
    """Run the API alone, for containers."""
    cli.run_api()


@app.command()
def worker(
    role: Annotated[str, typer.Option(help="Comma-separated: control, recorder, processor.")] = (
        "control,recorder,processor"
    ),
) -> None:
    """Run a worker alone, for containers."""
    raise typer.Exit(cli.run_worker(role))


@db.command()
def upgrade() -> None:
    """Bring the schema up to date; any number may try at once."""
    from streamvault.db.migrate import upgrade as run_migrations

    url = load_settings().database_url
    if url is None:
        raise SettingsError(f"{PREFIX}DATABASE_URL: is needed here")
    asyncio.run(run_migrations(url.get_secret_value()))


def _running(data_dir: Path) -> runfile.Running:
    found = runfile.running(data_dir)
    if found is None:
        raise Conflict(f"StreamVault does not run on {data_dir}", hint="start it with `up`")
    return found
