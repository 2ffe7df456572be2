"""Passwords: what is a good one, and how one is kept.

Argon2id with the parameters of RFC 9106, section 4, second choice (64 MiB, three passes). Hashing
takes a good part of a second on a small machine: never on the event loop.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from streamvault.errors import InvalidInput

# OWASP ASVS 5.0.0, 6.2.1, 6.2.9 and 6.2.4.
MIN_LENGTH, MAX_LENGTH = 12, 128
COMMON = 10_000

_hasher: Final = PasswordHasher()


def check_new_password(password: str, username: str) -> None:
    """Raises InvalidInput for one that is too short, too long, or the first that is guessed."""
    if len(password) < MIN_LENGTH:
        raise InvalidInput(f"a password takes at least {MIN_LENGTH} characters")
    if len(password) > MAX_LENGTH:
        raise InvalidInput(f"a password takes at most {MAX_LENGTH} characters")
    lowered = password.casefold()
    if lowered in _common() or lowered == username.casefold():
        raise InvalidInput(
            "this password is one of the first that are tried", hint="take some words at random"
        )


def hash_password(password: str) -> str:
    return _hasher.hash(password)


def verify_password(hashed: str | None, password: str) -> bool:
    """Takes as long when there is nobody to compare with (None), or when the row is damaged."""
    try:
        return _hasher.verify(hashed or _nobodys(), password) and hashed is not None
    except InvalidHashError:
        verify_password(None, password)
        return False
    except Argon2Error:
        return False


def is_outdated(hashed: str) -> bool:
    """Made with other parameters than today's."""
    return _hasher.check_needs_rehash(hashed)


@cache
def _nobodys() -> str:
    return _hasher.hash("nobody has this password")


@cache
def _common() -> frozenset[str]:
    # Loaded when somebody chooses a password, which is seldom.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # noqa: PLC0415

    return frozenset(FREQUENCY_LISTS["passwords"][:COMMON])
