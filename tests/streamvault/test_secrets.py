from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from streamvault.errors import SecretUnreadable, SettingsError
from streamvault.secrets import Keyring, load_keyring
from streamvault.settings import Settings, check_settings


def new_key() -> str:
    return Fernet.generate_key().decode()


def test_what_was_sealed_opens_only_in_its_place() -> None:
    keyring = Keyring([new_key()])
    sealed = keyring.seal("credentials.user_token", "s3cret")
    assert "s3cret" not in sealed
    assert keyring.open("credentials.user_token", sealed) == "s3cret"
    with pytest.raises(SecretUnreadable, match="app_token"):
        keyring.open("credentials.app_token", sealed)


def test_the_first_key_encrypts_and_older_ones_still_open() -> None:
    old, new = new_key(), new_key()
    before = Keyring([old]).seal("a.b", "text")
    both = Keyring([new, old])
    assert both.open("a.b", before) == "text"
    assert Keyring([new]).open("a.b", both.seal("a.b", "text")) == "text"


def test_another_key_is_told_and_not_replaced(tmp_path: Path) -> None:
    sealed = Keyring([new_key()]).seal("a.b", "text")
    keyring = load_keyring(Settings(data_dir=tmp_path))
    with pytest.raises(SecretUnreadable, match=r"a\.b cannot be decrypted"):
        keyring.open("a.b", sealed)


def test_processes_that_start_at_once_share_one_key_that_others_cannot_read(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "fresh")
    with ThreadPoolExecutor(1) as one:
        first = one.submit(load_keyring, settings).result()
    assert load_keyring(settings).open("a.b", first.seal("a.b", "text")) == "text"
    assert (tmp_path / "fresh" / "secret.key").stat().st_mode & 0o077 == 0
    assert [path.name for path in (tmp_path / "fresh").iterdir()] == ["secret.key"]


@pytest.mark.parametrize("value", ["hunter2", "hunter2,hunter3", ",", "Zm9v"])
def test_a_key_that_is_none_names_the_variable(value: str) -> None:
    with pytest.raises(SettingsError, match="STREAMVAULT_SECRET_KEY: takes Fernet keys") as error:
        check_settings({"secret_key": value})
    assert value not in error.value.one_line or value == ","


def test_keys_are_taken_from_the_setting(tmp_path: Path) -> None:
    both = f"{new_key()}, {new_key()}"
    settings = check_settings({"data_dir": tmp_path, "secret_key": both})
    assert load_keyring(settings).open("a.b", load_keyring(settings).seal("a.b", "text")) == "text"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "hunter2"])
def test_a_damaged_key_file_is_named_and_not_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / "secret.key"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"secret\.key holds no key"):
        load_keyring(Settings(data_dir=tmp_path))
    assert file.read_text() == content
