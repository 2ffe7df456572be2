#!/usr/bin/env python3
"""Sets StreamVault up in this clone, then runs a verb: `./sv up`, `./sv test`, `./sv --help`.

Standard library only. What has been done is remembered in stamp files beside the result, so that a
second call costs a tenth of a second. Outside this folder only package caches are written.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036  # the one file that an older Python may meet
    sys.exit("sv: Python 3.11 or newer is needed, this is " + sys.version.split()[0])

import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent
DEVELOPER_VERBS = {
    "test": ("-m", "pytest"),
    "check": (".ci/check.py",),
    "bench": ("-m", "benchmarks"),
}
# pip's own setting, and the one in which uv takes the same; uv reads none of pip's.
MIRROR_SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}
LOCKS = {
    "requirements.lock": ("pyproject.toml", "--extra", "embedded"),
    "requirements-dev.lock": (
        *("pyproject.toml", "--extra", "embedded", "--group", "dev"),
        *("-c", "requirements.lock"),
    ),
    "build.lock": ("-",),
    "bootstrap.lock": ("-",),
}
# hatchling asks for editables only while it makes an editable install, and for Node only when there
# is a front end, so neither stands in pyproject.toml.
LOCK_INPUTS = {
    "build.lock": "hatchling>=1.27\neditables\nnodejs-wheel-binaries>=24,<25\n",
    "bootstrap.lock": "uv\n",
}


class SetUpError(Exception):
    """One line for the person at the terminal."""


@dataclass(frozen=True)
class Step:
    """Skipped when `stamp` holds the fingerprint of the inputs and every output exists."""

    say: str
    inputs: Sequence[Path]
    outputs: Sequence[Path]
    stamp: Path
    run: Callable[[], None]

    def ensure(self) -> bool:
        """Whether there was something to do. The stamp comes last: a killed set-up just goes on."""
        wanted = fingerprint(self.inputs)
        if all(path.exists() for path in self.outputs) and read(self.stamp) == wanted:
            return False
        check_owner()
        print(f"sv: {self.say} …", file=sys.stderr, flush=True)
        self.run()
        self.stamp.write_text(wanted)
        return True


class SetUp:
    """The steps of one clone, in order."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bootstrap = root / ".venv-bootstrap"
        self.environment = root / ".venv"
        self.uv_path = self.bootstrap / "bin" / "uv"

    def run(self, *, developer: bool) -> None:
        with one_at_a_time(self.root / ".sv.lock"):
            self.get_uv().ensure()
            self.install().ensure()
            if developer:
                self.install_tools().ensure()
            self.install_project().ensure()

    def get_uv(self) -> Step:
        lock = self.root / "bootstrap.lock"
        stamp = self.bootstrap / "sv.stamp"
        return Step("getting uv", [lock], [self.uv_path], stamp, self._get_uv)

    def install(self) -> Step:
        lock = self.root / "requirements.lock"
        outputs = [self.environment / "bin" / "python"]
        stamp = self.environment / "sv-packages.stamp"
        say = f"installing {count_pins(lock)} packages"
        return Step(say, [lock], outputs, stamp, self._install)

    def install_tools(self) -> Step:
        lock = self.root / "requirements-dev.lock"
        outputs = [self.environment / "bin" / "pytest"]
        stamp = self.environment / "sv-tools.stamp"
        python = self.environment / "bin" / "python"
        say = f"installing the tools for tests and checks, {count_pins(lock)} packages in all"
        return Step(say, [lock], outputs, stamp, lambda: self._pip(python, lock))

    def install_project(self) -> Step:
        frontend = self.root / "frontend"
        inputs = [self.root / name for name in ("pyproject.toml", "hatch_build.py", "build.lock")]
        outputs = [self.environment / "bin" / "streamvault"]
        say = "installing the project"
        if frontend.is_dir():
            inputs += frontend_sources(frontend)
            outputs.append(frontend / "dist" / "index.html")
            say += " and building its front end"
        stamp = self.environment / "sv-project.stamp"
        return Step(say, inputs, outputs, stamp, self._install_project)

    def lock(self) -> None:
        """Make the four lock files anew; pins stay where the requirements still allow them."""
        with one_at_a_time(self.root / ".sv.lock"):
            self.get_uv().ensure()
            for name in LOCKS:
                print(f"sv: {name} …", file=sys.stderr, flush=True)
                self.compile(name, self.root / name)

    def compile(self, name: str, to: Path) -> None:
        options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-config"]
        # The lock holds names and hashes, never an address; the header would repeat the options.
        options += ["--no-emit-index-url", "--custom-compile-command", "./sv lock", "-q"]
        arguments = ["pip", "compile", *LOCKS[name], *options, "-o", str(to)]
        self._uv(*arguments, stdin=LOCK_INPUTS.get(name, ""))

    def _get_uv(self) -> None:
        if importlib.util.find_spec("ensurepip") is None:
            raise SetUpError("this Python cannot make environments; apt install python3-venv")
        call(base_python(), "-m", "venv", "--clear", str(self.bootstrap))
        call(
            *(self.bootstrap / "bin" / "python", "-m", "pip", "install", "-q", "--no-input"),
            *("--disable-pip-version-check", "--require-hashes"),
            *("-r", self.root / "bootstrap.lock"),
        )

    def _install(self) -> None:
        """Beside the old one and swapped when whole: a running StreamVault goes on meanwhile."""
        fresh = self.root / ".venv-next"
        python = fresh / "bin" / "python"
        self._uv("venv", "-q", "--clear", "--relocatable", "--python", base_python(), str(fresh))
        self._pip(python, self.root / "requirements.lock")
        old = self.root / ".venv-old"
        shutil.rmtree(old, ignore_errors=True)
        if self.environment.exists():
            self.environment.rename(old)
        fresh.rename(self.environment)
        shutil.rmtree(old, ignore_errors=True)

    def _pip(self, python: Path, lock: Path) -> None:
        options = ["-q", "--require-hashes", "--no-build", "--compile-bytecode", "--python", python]
        try:
            self._uv("pip", "install", *map(str, options), "-r", str(lock))
        except SetUpError as error:
            hint = "if it could not download, set UV_DEFAULT_INDEX to your package mirror"
            raise SetUpError(f"{error}; {hint}") from None

    def _install_project(self) -> None:
        python = str(self.environment / "bin" / "python")
        options = ["-q", "--no-deps", "--python", python, "--require-build-hashes"]
        options += ["--build-constraints", str(self.root / "build.lock")]
        self._uv("pip", "install", *options, "-e", str(self.root))

    def _uv(self, *arguments: str, stdin: str = "") -> None:
        env = clean_environment() | mirror_settings(self.bootstrap / "bin" / "python")
        env["UV_PYTHON_DOWNLOADS"] = "never"
        call(self.uv_path, *arguments, env=env, stdin=stdin, cwd=self.root)


def main(arguments: list[str]) -> None:
    verb = arguments[0] if arguments else "--help"
    set_up = SetUp(ROOT)
    try:
        if verb == "lock":
            set_up.lock()
            return
        set_up.run(developer=verb in DEVELOPER_VERBS)
    except SetUpError as error:
        sys.exit(f"sv: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    hand_over(set_up.environment / "bin", verb, arguments[1:])


def hand_over(bin_dir: Path, verb: str, rest: list[str]) -> None:
    """Become the verb: the same process, so signals and exit codes need nobody in between."""
    env = clean_environment()
    env["PATH"] = f"{bin_dir}{os.pathsep}{env.get('PATH', os.defpath)}"
    env["VIRTUAL_ENV"] = str(bin_dir.parent)
    env.setdefault("STREAMVAULT_ENV_FILE", str(ROOT / ".env"))
    python = str(bin_dir / "python")
    if verb in DEVELOPER_VERBS:
        os.chdir(ROOT)
        argv = [python, *DEVELOPER_VERBS[verb], *rest]
    else:
        # In the caller's folder, since the verb's arguments may name files in it.
        argv = [python, str(ROOT / "cli.py"), verb, *rest]
    sys.stdout.flush()
    os.execve(python, argv, env)


def clean_environment() -> dict[str, str]:
    """Without what makes every start of Python slow or strange."""
    unwanted = {"PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def mirror_settings(python: Path) -> dict[str, str]:
    """The package mirror that pip is set to, for uv. No trust is needed: the hashes decide."""
    if any(name in os.environ for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL")):
        return {}
    listed = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    return translate_mirror(listed.stdout)


def translate_mirror(listing: str) -> dict[str, str]:
    """uv's variables for the lines of `pip config list`; a variable of pip's wins over a file."""
    found: dict[str, str] = {}
    for line in sorted(listing.splitlines(), key=lambda text: text.startswith(":env:")):
        key, _, quoted = line.partition("=")
        name = MIRROR_SETTINGS.get(key.rpartition(".")[2])
        if name:
            # find-links is the one list that uv wants with commas.
            values = quoted.strip("'\"").replace("\\n", " ").split()
            found[name] = ("," if name == "UV_FIND_LINKS" else " ").join(values)
    if "UV_INDEX" in found:
        # As pip does: look in all of them, not only in the first that knows the name.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {name: value for name, value in found.items() if name not in os.environ}


def call(
    program: str | Path,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    cwd: Path | None = None,
) -> None:
    """Run to the end. Raises SetUpError; the program has already printed why."""
    done = subprocess.run(
        [program, *arguments], env=env or clean_environment(), input=stdin, text=True, cwd=cwd
    )
    if done.returncode:
        shown = " ".join(str(word) for word in arguments[:3])
        raise SetUpError(f"{Path(program).name} {shown} failed (code {done.returncode})")


def check_owner() -> None:
    """Raises SetUpError where somebody else's set-up would have to be changed."""
    for path in (ROOT, ROOT / ".venv", ROOT / ".venv-bootstrap"):
        if path.exists() and not os.access(path, os.W_OK):
            owner = owner_name(path)
            raise SetUpError(
                f"{path} belongs to {owner}: run this as {owner}, or make a clone of your own"
            )


def owner_name(path: Path) -> str:
    uid = path.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Two terminals at once: the second waits, then finds everything done."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    except PermissionError:
        # Somebody else's clone. If everything is in place, reading is all there is to do.
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def fingerprint(inputs: Sequence[Path]) -> str:
    """Changes with the interpreter, and with the name or content of any input."""
    digest = hashlib.sha256(f"{base_python()} {sys.version}".encode())
    for path in inputs:
        content = path.read_bytes() if path.exists() else b""
        digest.update(f"\0{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def base_python() -> str:
    """The interpreter itself, even when called from within an environment, perhaps our own."""
    return getattr(sys, "_base_executable", sys.executable)


def frontend_sources(frontend: Path) -> list[Path]:
    nested = [p for part in ("src", "public") for p in (frontend / part).rglob("*")]
    return sorted(p for p in [*frontend.iterdir(), *nested] if p.is_file())


def count_pins(lock: Path) -> int:
    return sum("==" in line.split("#")[0] for line in lock.read_text().splitlines())


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    main(sys.argv[1:])
