from __future__ import annotations

import statistics
import time

import argon2
import pytest

from streamvault import passwords
from streamvault.errors import InvalidInput

GOOD = "correct horse battery staple"


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("", "at least 12"),
        ("elevenchars", "at least 12"),
        ("x" * 129, "at most 128"),
        ("1qaz2wsx3edc", "first that are tried"),
        ("FinalFantasy", "first that are tried"),
        ("administrator", "first that are tried"),
    ],
)
def test_what_is_guessed_first_is_not_taken(password: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        passwords.check_new_password(password, "Administrator")


@pytest.mark.parametrize(
    "password", ["twelve chars", "x" * 128, "пароль пароль", "            \n", GOOD]
)
def test_any_characters_are_fine(password: str) -> None:
    passwords.check_new_password(password, "alice")
    hashed = passwords.hash_password(password)
    assert passwords.verify_password(hashed, password)
    assert not passwords.verify_password(hashed, f"{password} ")


def test_it_is_kept_as_argon2id() -> None:
    hashed = passwords.hash_password(GOOD)
    assert hashed.startswith("$argon2id$") and GOOD not in hashed
    assert argon2.extract_parameters(hashed).memory_cost >= 19 * 1024  # KiB, OWASP's least
    assert not passwords.is_outdated(hashed)
    assert passwords.is_outdated(argon2.PasswordHasher(time_cost=1).hash(GOOD))


@pytest.mark.parametrize("damaged", ["", "plain", "$argon2id$v=19$m=1,t=1,p=1$x$y"])
def test_a_damaged_row_lets_nobody_in(damaged: str) -> None:
    assert not passwords.verify_password(damaged, GOOD)


def test_nobody_takes_as_long_as_somebody() -> None:
    hashed = passwords.hash_password(GOOD)
    passwords.verify_password(None, GOOD)
    times: dict[str | None, list[float]] = {hashed: [], None: []}
    for _ in range(9):
        for key, taken in times.items():
            begun = time.process_time()
            assert not passwords.verify_password(key, "wrong password")
            taken.append(time.process_time() - begun)
    known, unknown = (statistics.median(taken) for taken in times.values())
    assert 0.5 < known / unknown < 2
