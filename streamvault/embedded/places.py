"""Where the embedded database lives and as whom it runs.

PostgreSQL refuses to run as root, so root lends it the account `nobody`. That account has to reach
the data below folders that may be closed to others; their permissions are never widened.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from streamvault.embedded.programs import setpriv
from streamvault.errors import SettingsError

SERVER_ACCOUNT = "nobody"
SYSTEM_FOLDER = Path("/var/lib/streamvault")
MAX_SOCKET_PATH = 107  # bytes of sun_path in sockaddr_un, without the closing zero
_SOCKET_NAME = ".s.PGSQL.5432"


@dataclass(frozen=True, slots=True)
class Place:
    folder: Path
    privileges: tuple[str, ...]
    """setpriv options that turn root into the server's account; empty for everyone else."""
    uid: int
    gid: int

    def runs(self, *argv: str | Path) -> bool:
        """Whether the server's account gets through with this command."""
        # env, since setpriv itself still has root's capabilities when it looks its program up.
        command = [setpriv(), *self.privileges, "--", "env", *argv] if self.privileges else [*argv]
        try:
            done = subprocess.run(command, cwd="/", capture_output=True, check=False)
        except OSError:
            return False
        return done.returncode == 0

    def make_private_folder(self, path: Path) -> None:
        """Raises SettingsError when the parent does not allow it."""
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            if os.geteuid() == 0:
                os.chown(path, self.uid, self.gid)
                path.chmod(0o700)
        except OSError as error:
            raise SettingsError(f"{path} cannot be made: {error.strerror}") from None


def find_place(data_dir: Path) -> Place:
    """The database's folder below `data_dir`, or for root, if need be, below /var/lib/streamvault.

    Raises SettingsError when the folder cannot be made or reached.
    """
    folder = data_dir.absolute() / "postgres"
    if os.geteuid() != 0:
        make_folders(folder, 0o700)
        return Place(folder, (), os.geteuid(), os.getegid())
    return _place_for_root(data_dir.absolute(), folder)


def make_folders(path: Path, mode: int) -> None:
    """Make a path's missing folders with this mode, whatever the umask; leave the others alone."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    try:
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            folder.chmod(mode)
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be made: {error.strerror}",
            hint="set STREAMVAULT_DATA_DIR to a folder that you may write to",
        ) from None


def socket_folder(place: Place) -> Path:
    """A folder, private to the server's account, whose socket path the kernel accepts."""
    folder = place.folder / "run"
    if len(os.fsencode(folder / _SOCKET_NAME)) > MAX_SOCKET_PATH:
        folder = _short_folder(place)
    place.make_private_folder(folder)
    found = folder.lstat()
    # /tmp is open to everyone: somebody else may have been there first.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != place.uid or found.st_mode & 0o077:
        raise SettingsError(f"{folder} belongs to somebody else", hint="remove it")
    return folder


def _place_for_root(data_dir: Path, folder: Path) -> Place:
    elsewhere = SYSTEM_FOLDER / _short_name(data_dir)
    account = pwd.getpwnam(SERVER_ACCOUNT)
    if not (elsewhere / "data").exists():
        make_folders(folder, 0o711)
        for privileges in (_drop_root(account), _drop_root_but_search(account)):
            place = Place(folder, privileges, account.pw_uid, account.pw_gid)
            if place.runs("test", "-d", folder / "."):
                return place
        if (folder / "data").exists():
            raise SettingsError(
                f"the account {account.pw_name} can no longer reach the database in {folder}",
                hint="allow the capability dac_read_search, or let others enter its parent folders",
            )
    make_folders(elsewhere, 0o711)
    return Place(elsewhere, _drop_root(account), account.pw_uid, account.pw_gid)


def _drop_root(account: pwd.struct_passwd) -> tuple[str, ...]:
    return (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")


def _drop_root_but_search(account: pwd.struct_passwd) -> tuple[str, ...]:
    """With the one capability that gets through closed parent folders."""
    only = "-all,+dac_read_search"
    kept = (f"--inh-caps={only}", f"--ambient-caps={only}", f"--bounding-set={only}")
    # access(2), which PostgreSQL asks about its own binaries, would leave the capability out.
    return (*_drop_root(account), *kept, "--securebits=+no_setuid_fixup")


def _short_folder(place: Place) -> Path:
    if os.geteuid() == 0:
        return Path("/run") / f"streamvault-{_short_name(place.folder)}"
    of_session = Path(f"/run/user/{place.uid}")
    parent = of_session if of_session.is_dir() else Path("/tmp")
    return parent / f"streamvault-{place.uid}-{_short_name(place.folder)}"


def _short_name(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
