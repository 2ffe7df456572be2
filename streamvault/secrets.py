"""Stored secrets: encrypted with a key that is not in the database.

Fernet has no associated data, so each value carries its place inside the plaintext: a sealed value
that was moved to another row or column does not open there.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from streamvault.errors import SecretUnreadable, SettingsError
from streamvault.settings import PREFIX, Settings

KEY_FILE = "secret.key"


class Keyring:
    """Fernet keys; the first one encrypts, all of them open."""

    def __init__(self, keys: list[str]) -> None:
        """Raises ValueError for a key that is none."""
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, place: str, text: str) -> str:
        """`place` names row and column, such as `credentials.user_token`."""
        return self._fernet.encrypt(f"{place}\0{text}".encode()).decode()

    def open(self, place: str, sealed: str) -> str:
        """Raises SecretUnreadable when the key is another one, or the value of another place."""
        try:
            said, _, text = self._fernet.decrypt(sealed.encode()).decode().partition("\0")
        except (InvalidToken, UnicodeDecodeError):
            raise _unreadable(place) from None
        if said != place:
            raise _unreadable(place)
        return text


def load_keyring(settings: Settings) -> Keyring:
    """The keys of the setting, else of `DATA_DIR/secret.key`, which is made once.

    Raises SettingsError for a file that cannot be read or holds no key."""
    if settings.secret_key:
        return Keyring(_split(settings.secret_key.get_secret_value()))
    path = settings.data_dir / KEY_FILE
    try:
        return Keyring(_split(_key_of(path)))
    except ValueError:
        raise SettingsError(
            f"{path} holds no key",
            hint="bring it back from a backup, or move it away to begin without the old secrets",
        ) from None


def _split(text: str) -> list[str]:
    return [key.strip() for key in text.split(",") if key.strip()]


def _key_of(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SettingsError(f"{PREFIX}DATA_DIR: {error.strerror}: {path}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(Fernet.generate_key().decode())
        file.flush()
        os.fsync(file.fileno())
    try:
        # link() keeps the first writer's key when two processes start at once.
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return path.read_text()


def _unreadable(place: str) -> SecretUnreadable:
    return SecretUnreadable(
        f"{place} cannot be decrypted",
        hint=f"bring back {KEY_FILE} or {PREFIX}SECRET_KEY of the backup, or set it anew",
    )
