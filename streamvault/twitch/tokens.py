"""The tokens in use: kept by a store that all processes share, renewed by one caller at a time.

An app token is made anew. A user's token is refreshed, and Twitch may then take the refresh token
away: two that refresh at once would lose the account, so both happen under the store's lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from streamvault.errors import (
    DependencyUnavailable,
    TokenInvalid,
    TwitchNotConfigured,
    TwitchRefused,
    TwitchUnavailable,
)
from streamvault.twitch.gate import Bearer
from streamvault.twitch.oauth import OAuth, TokenSet, Validation

APP, USER, BROWSER = "app_token", "user_token", "browser_token"
KINDS = {APP: "app", USER: "user", BROWSER: "browser"}
FRESH_S = 30.0
"""For how long a token is used without a look at the store, where another process may have put
another one or none."""
REFUSED_S = 30.0
"""For how long Twitch is not asked again after it refused our client id and secret."""


@dataclass(frozen=True, slots=True)
class StoredToken:
    """`problem` says in words why a token is not valid."""

    access: str = field(repr=False)
    refresh: str = field(default="", repr=False)
    login: str = ""
    user_id: str = ""
    scopes: tuple[str, ...] = ()
    expires_at: datetime | None = None
    validated_at: datetime | None = None
    valid: bool = True
    problem: str = ""


class HeldToken(Protocol):
    """One credential while nobody else can change it."""

    @property
    def token(self) -> StoredToken | None: ...

    async def write(self, token: StoredToken) -> None: ...

    async def mark_invalid(self, problem: str) -> None: ...


class CredentialStore(Protocol):
    """What cannot be decrypted is there, but not valid. All may raise DependencyUnavailable."""

    async def read(self, name: str) -> StoredToken | None: ...

    def locked(self, name: str) -> AbstractAsyncContextManager[HeldToken]:
        """What is written is there for the others, whole, once the block is left."""

    async def delete(self, name: str) -> None: ...


class Watcher(Protocol):
    """Hears of tokens; `streamvault.metrics.twitch` shows them."""

    def note_token(self, kind: str, valid: bool, expires: float | None) -> None: ...

    def forget_token(self, kind: str) -> None: ...


class Tokens:
    """For one event loop."""

    def __init__(
        self,
        oauth: OAuth,
        store: CredentialStore,
        watcher: Watcher | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._oauth = oauth
        self._store = store
        self._watcher = watcher
        self._clock = clock
        self._known: dict[str, tuple[float, StoredToken]] = {}
        self._renewals: dict[str, asyncio.Task[StoredToken]] = {}
        self._refused: tuple[float, TwitchRefused] | None = None
        self._unsaved: tuple[str, StoredToken] | None = None
        """A refreshed token that the store could not take, after the one that it replaces."""
        self.as_app = Bearer("app", self.app, self.app_after)
        # One account is signed in at a time, so that one bucket is enough.
        self.as_user = Bearer("user", self.user, self.user_after)

    async def app(self) -> str:
        """Raises TwitchNotConfigured, TwitchRefused when client id and secret are refused."""
        token = await self._find(APP)
        if token and token.valid:
            return token.access
        return await self.app_after(token.access if token else "")

    async def app_after(self, bad: str) -> str:
        """Raises as `app`."""
        return await self._renew(APP, bad, self._make_app_token)

    async def user(self) -> str:
        """Raises TwitchNotConfigured when nobody is signed in, TokenInvalid."""
        return _usable(await self._find(USER)).access

    async def user_after(self, bad: str) -> str:
        """Raises as `user`; a refresh that is refused marks the credential invalid."""
        return await self._renew(USER, bad, self._refresh_user_token)

    async def browser(self) -> str | None:
        """The token for playback, unless there is none that is valid."""
        token = await self._find(BROWSER)
        return token.access if token and token.valid else None

    async def connect_user(self, tokens: TokenSet, who: Validation) -> None:
        """Somebody signed in."""
        fresh = _stored(tokens)
        await self._put(USER, _validated(fresh, who))

    async def keep_browser_token(self, token: str, who: Validation | None) -> None:
        """None: Twitch could not be asked whether it is valid."""
        fresh = StoredToken(token)
        await self._put(BROWSER, _validated(fresh, who) if who else fresh)

    async def forget(self, name: str) -> None:
        await self._store.delete(name)
        self._known.pop(name, None)
        if self._watcher:
            self._watcher.forget_token(KINDS[name])

    async def validate(self) -> None:
        """Ask Twitch about each stored token, as it wants hourly; renew or mark what is not valid.

        Raises TwitchUnavailable once all were tried."""
        unavailable: TwitchUnavailable | None = None
        for name in KINDS:
            try:
                await self._validate(name)
            except TwitchUnavailable as error:
                unavailable = error
        if unavailable:
            raise unavailable

    async def close(self) -> None:
        """Wait for renewals on their way: a refreshed token that is not stored is lost."""
        await asyncio.gather(*self._renewals.values(), return_exceptions=True)

    # ---- renewing

    async def _renew(
        self, name: str, bad: str, make: Callable[[str], Awaitable[StoredToken]]
    ) -> str:
        task = self._renewals.get(name)
        if task:
            # That one may have begun before `bad` was found to be bad.
            access = (await asyncio.shield(task)).access
            if access != bad:
                return access
        task = self._renewals.get(name) or self._begin(name, bad, make)
        # A caller that is cancelled must not take the renewal along: the old token is dead already.
        return (await asyncio.shield(task)).access

    def _begin(
        self, name: str, bad: str, make: Callable[[str], Awaitable[StoredToken]]
    ) -> asyncio.Task[StoredToken]:
        async def renew() -> StoredToken:
            token = await make(bad)
            self._remember(name, token)
            return token

        def done(task: asyncio.Task[StoredToken]) -> None:
            del self._renewals[name]
            if not task.cancelled():
                task.exception()

        task = asyncio.create_task(renew())
        self._renewals[name] = task
        task.add_done_callback(done)
        return task

    async def _make_app_token(self, bad: str) -> StoredToken:
        if self._refused and self._clock() < self._refused[0]:
            raise self._refused[1]
        async with self._store.locked(APP) as held:
            if held.token and held.token.valid and held.token.access != bad:
                return held.token
            try:
                token = _stored(await self._oauth.app_token())
            except TwitchRefused as error:
                # Raised outside of the block, since an error inside would undo what is written.
                refused = error
                await held.mark_invalid(str(error))
            else:
                await held.write(token)
                return token
        self._refused = self._clock() + REFUSED_S, refused
        self._known.pop(APP, None)
        raise refused

    async def _refresh_user_token(self, bad: str) -> StoredToken:
        async with self._store.locked(USER) as held:
            old = _usable(held.token)
            if old.access != bad:
                return old
            try:
                fresh = await self._refreshed(old)
            except TokenInvalid as error:
                refused = error
                await held.mark_invalid(str(error))
            else:
                await held.write(fresh)
                return fresh
        self._known.pop(USER, None)
        raise refused

    async def _refreshed(self, old: StoredToken) -> StoredToken:
        if self._unsaved and self._unsaved[0] == old.access:
            return self._unsaved[1]
        if not old.refresh:
            raise TokenInvalid("the account's token has ended and cannot be refreshed", status=401)
        fresh = _stored(await self._oauth.refresh(old.refresh))
        fresh = replace(
            fresh,
            refresh=fresh.refresh or old.refresh,
            scopes=fresh.scopes or old.scopes,
            login=old.login,
            user_id=old.user_id,
        )
        self._unsaved = old.access, fresh
        return fresh

    # ---- asking Twitch

    async def _validate(self, name: str) -> None:
        token = await self._store.read(name)
        if token is None:
            return
        self._remember(name, token)
        if not token.valid:
            return
        try:
            who = await self._oauth.validate(token.access)
        except TokenInvalid as error:
            await self._replace_invalid(name, token, str(error))
            return
        async with self._store.locked(name) as held:
            # Another process may have renewed it meanwhile.
            if held.token and held.token.access == token.access:
                token = _validated(held.token, who)
                await held.write(token)
        self._remember(name, token)

    async def _replace_invalid(self, name: str, token: StoredToken, problem: str) -> None:
        try:
            if name == APP:
                await self.app_after(token.access)
            elif name == USER:
                await self.user_after(token.access)
            else:
                await self._give_up(name, token, problem)
        except (TwitchRefused, TwitchNotConfigured):
            # It is marked, and the status shows why.
            self._remember(name, replace(token, valid=False, problem=problem))

    async def _give_up(self, name: str, token: StoredToken, problem: str) -> None:
        async with self._store.locked(name) as held:
            if held.token and held.token.access == token.access:
                await held.mark_invalid(problem)
        self._remember(name, replace(token, valid=False, problem=problem))

    # ---- remembering

    async def _find(self, name: str) -> StoredToken | None:
        at, known = self._known.get(name, (0.0, None))
        if known and self._clock() < at + FRESH_S:
            return known
        try:
            found = await self._store.read(name)
        except DependencyUnavailable:
            if known is None:
                raise
            return known
        if found is None:
            self._known.pop(name, None)
        else:
            self._remember(name, found)
        return found

    async def _put(self, name: str, token: StoredToken) -> None:
        async with self._store.locked(name) as held:
            await held.write(token)
        self._remember(name, token)

    def _remember(self, name: str, token: StoredToken) -> None:
        self._known[name] = self._clock(), token
        if self._watcher:
            ends = token.expires_at.timestamp() if token.expires_at else None
            self._watcher.note_token(KINDS[name], token.valid, ends)


def _usable(token: StoredToken | None) -> StoredToken:
    if token is None:
        raise TwitchNotConfigured(
            "no Twitch account is connected", hint="connect one in the settings"
        )
    if not token.valid:
        raise TokenInvalid(
            f"the Twitch account must be connected again: {token.problem}", status=401
        )
    return token


def _stored(tokens: TokenSet) -> StoredToken:
    return StoredToken(
        tokens.access,
        tokens.refresh,
        scopes=tokens.scopes,
        expires_at=_from_now(tokens.expires_in_s),
    )


def _validated(token: StoredToken, who: Validation) -> StoredToken:
    return replace(
        token,
        login=who.login,
        user_id=who.user_id,
        scopes=who.scopes,
        expires_at=_from_now(who.expires_in_s),
        validated_at=datetime.now(UTC),
    )


def _from_now(seconds: int) -> datetime | None:
    """0 is said of tokens that do not end."""
    return datetime.now(UTC) + timedelta(seconds=seconds) if seconds else None
