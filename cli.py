"""The `streamvault` command. What stays running starts here: supervisor, API and workers.

All other verbs are in `verbs.py`, which parses what a person types and costs 7 MB: too much for
each of four processes that nobody types at. For the same reason imports wait for their process.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from streamvault.errors import InvalidInput, SettingsError, StreamVaultError
from streamvault.settings import load_settings

if TYPE_CHECKING:
    from streamvault.embedded.stack import Stack
    from streamvault.embedded.supervisor import Stage

CLI = Path(__file__).resolve()
ROLES = frozenset({"control", "recorder", "processor"})
API_DRAIN_S = 10  # a download or an open WebSocket must not hold up a stop


def run_up() -> None:
    from streamvault.embedded import runfile
    from streamvault.embedded.stack import Stack

    settings = load_settings()
    with runfile.only_supervisor(settings.data_dir.absolute()):
        stack = Stack(settings, CLI)
        stack.check_port()
        supervise(stack, stack.stages(), stack.greeting)


def supervise(stack: Stack, stages: list[Stage], greeting: Callable[[], str]) -> None:
    """Run until told to stop, telling in `run.json` where everything is."""
    from streamvault.embedded import runfile
    from streamvault.embedded.supervisor import Supervisor

    supervisor = Supervisor(stages, lambda s: runfile.write(stack.data_dir, stack.running(s)))
    asyncio.run(supervisor.run(greeting))


def run_api() -> None:
    import uvicorn

    from api.app import create_app
    from streamvault.logs import configure_logs

    settings = load_settings()
    configure_logs(settings.log_level, settings.log_format)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=API_DRAIN_S,
    )


def run_worker(role: str) -> int:
    """Raises InvalidInput for a role that does not exist."""
    roles = frozenset(role.split(","))
    if not roles <= ROLES:
        raise InvalidInput(f"--role takes {', '.join(sorted(ROLES))}, not {role!r}")
    import worker

    return worker.main(load_settings(), roles)


def main() -> None:
    """The console command. Exit codes: 2 for a wrong setting or argument, 1 for any other error."""
    try:
        sys.exit(_dispatch(sys.argv[1:]))
    except (SettingsError, InvalidInput) as error:
        _fail(error, 2)
    except StreamVaultError as error:
        _fail(error, 1)


def _dispatch(arguments: list[str]) -> int:
    match arguments:
        case ["up"]:
            run_up()
        case ["api"]:
            run_api()
        case ["worker", "--role", role]:
            return run_worker(role)
        case _:
            from verbs import app

            app(prog_name="streamvault")
    return 0


def _fail(error: StreamVaultError, code: int) -> None:
    print(f"streamvault: {error.one_line}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
