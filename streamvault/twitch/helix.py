"""Helix, as far as finding streams needs it.

Every call may raise TwitchRefused (of it TokenInvalid), TwitchUnavailable (of it CircuitOpen and
RateLimited), and TwitchNotConfigured when there is nothing to sign in with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from streamvault.errors import TwitchRefused, TwitchUnavailable
from streamvault.twitch.bodies import (
    Page,
    page_of,
    read_conduits,
    read_nothing,
    read_shard_errors,
    read_subscriptions,
)
from streamvault.twitch.exchange import Call
from streamvault.twitch.gate import Gate
from streamvault.twitch.tokens import Tokens
from streamvault.twitch.words import (
    Channel,
    Conduit,
    Followed,
    Game,
    LiveStream,
    Priority,
    Shard,
    ShardError,
    SubscriptionList,
    User,
    Video,
)

BATCH = 100
PAGE = ("first", "100")
MOST_PAGES = 1_000
LIMITED = ("subscription", "condition", "cost", "transport", "conduit")
"""One of these words is in a 429 about something else than the rate limit."""

T = TypeVar("T")
Params = Sequence[tuple[str, str]]


class Helix:
    def __init__(self, gate: Gate, tokens: Tokens, url: str, client_id: str) -> None:
        self._gate = gate
        self._tokens = tokens
        self._url = url.rstrip("/")
        self._client_id = client_id

    async def users(
        self,
        ids: Iterable[str] = (),
        logins: Iterable[str] = (),
        *,
        priority: Priority = Priority.RECONCILE,
    ) -> list[User]:
        """Those that exist, in Twitch's order."""
        asked = [("id", id_) for id_ in ids] + [("login", login.lower()) for login in logins]
        return await self._batches(User, "/users", asked, priority)

    async def streams(
        self, user_ids: Iterable[str], *, priority: Priority = Priority.RECONCILE
    ) -> list[LiveStream]:
        """Of those that are live, one each."""
        asked = [("user_id", id_) for id_ in user_ids]
        found = await self._batches(LiveStream, "/streams", asked, priority, PAGE)
        return list({stream.user_id: stream for stream in found}.values())

    async def channels(
        self, user_ids: Iterable[str], *, priority: Priority = Priority.RECONCILE
    ) -> list[Channel]:
        asked = [("broadcaster_id", id_) for id_ in user_ids]
        return await self._batches(Channel, "/channels", asked, priority)

    async def games(
        self, ids: Iterable[str], *, priority: Priority = Priority.PICTURES
    ) -> list[Game]:
        return await self._batches(Game, "/games", [("id", id_) for id_ in ids], priority)

    async def videos(self, user_id: str, *, priority: Priority = Priority.RECONCILE) -> list[Video]:
        """Twitch's own recordings of a channel's streams, newest first."""
        asked = [("user_id", user_id), ("type", "archive"), PAGE]
        return await self._all_pages(Video, "/videos", asked, priority)

    async def followed(
        self, user_id: str, *, priority: Priority = Priority.RECONCILE
    ) -> list[Followed]:
        """The channels that the signed-in user follows; `user_id` must be that user's."""
        asked = [("user_id", user_id), PAGE]
        return await self._all_pages(Followed, "/channels/followed", asked, priority, user=True)

    # ---- EventSub

    async def subscriptions(
        self, *, status: str = "", type: str = "", user: bool = False
    ) -> SubscriptionList:
        """All of them; Twitch takes one of the filters at most. `user`: those of WebSockets."""
        asked = [(name, value) for name, value in (("status", status), ("type", type)) if value]
        whole = SubscriptionList()
        seen, cursor = {""}, ""
        while True:
            params = [*asked, ("after", cursor)] if cursor else asked
            call = self._call("GET", "/eventsub/subscriptions", params)
            page, cursor = await self._send(call, read_subscriptions, user=user)
            whole = replace(page, items=whole.items + page.items)
            if not cursor:
                return whole
            if cursor in seen or len(seen) > MOST_PAGES:
                raise _endless(call)
            seen.add(cursor)

    async def create_subscription(
        self,
        type: str,
        version: str,
        condition: dict[str, str],
        transport: dict[str, str],
        *,
        user: bool = False,
    ) -> SubscriptionList:
        """The new one, with the sums. `user` for a WebSocket, which needs a user's token.

        Raises TwitchRefused with status 409 when it exists, 429 when there are too many."""
        wanted = {
            "type": type,
            "version": version,
            "condition": condition,
            "transport": transport,
        }
        call = self._call("POST", "/eventsub/subscriptions", json=wanted)
        created, _ = await self._send(call, read_subscriptions, user=user)
        return created

    async def delete_subscription(self, id: str, *, user: bool = False) -> bool:
        """False: it was gone."""
        call = self._call("DELETE", "/eventsub/subscriptions", [("id", id)])
        return await self._unless_gone(call, user=user)

    async def conduits(self) -> list[Conduit]:
        return await self._send(self._call("GET", "/eventsub/conduits"), read_conduits)

    async def create_conduit(self, shard_count: int) -> Conduit:
        """Raises TwitchRefused with status 429 when there are too many."""
        call = self._call("POST", "/eventsub/conduits", json={"shard_count": shard_count})
        return _only(call, await self._send(call, read_conduits))

    async def update_conduit(self, id: str, shard_count: int) -> Conduit | None:
        """None: it is gone."""
        wanted = {"id": id, "shard_count": shard_count}
        call = self._call("PATCH", "/eventsub/conduits", json=wanted)
        try:
            return _only(call, await self._send(call, read_conduits))
        except TwitchRefused as error:
            if error.status != 404:
                raise
            return None

    async def delete_conduit(self, id: str) -> bool:
        """False: it was gone."""
        return await self._unless_gone(self._call("DELETE", "/eventsub/conduits", [("id", id)]))

    async def shards(self, conduit_id: str) -> list[Shard]:
        """Raises TwitchRefused with status 404 when the conduit is gone or somebody else's."""
        asked = [("conduit_id", conduit_id)]
        return await self._all_pages(Shard, "/eventsub/conduits/shards", asked, Priority.SUBSCRIBE)

    async def assign_shard(
        self, conduit_id: str, shard_id: str, session_id: str
    ) -> list[ShardError]:
        """Lead a shard to a WebSocket; what Twitch has against it, nothing if it is done.

        Raises TwitchRefused with status 404 when the conduit is gone or somebody else's."""
        transport = {"method": "websocket", "session_id": session_id}
        wanted = {
            "conduit_id": conduit_id,
            "shards": [{"id": shard_id, "transport": transport}],
        }
        call = self._call("PATCH", "/eventsub/conduits/shards", json=wanted)
        return await self._send(call, read_shard_errors)

    # ---- asking

    async def _batches(
        self,
        kind: type[T],
        path: str,
        asked: Params,
        priority: Priority,
        *more: tuple[str, str],
    ) -> list[T]:
        found: list[T] = []
        for batch in _batched(list(dict.fromkeys(asked))):
            found += await self._all_pages(kind, path, [*batch, *more], priority)
        return found

    async def _all_pages(
        self, kind: type[T], path: str, asked: Params, priority: Priority, *, user: bool = False
    ) -> list[T]:
        found: list[T] = []
        cursor = ""
        for _ in range(MOST_PAGES):
            call = self._call("GET", path, [*asked, ("after", cursor)] if cursor else asked)
            page: Page[T] = await self._send(call, page_of(kind), priority, user=user)
            found += page.items
            # Some lists name a next page for as long as anybody asks.
            if not page.cursor or not page.items:
                return found
            cursor = page.cursor
        raise _endless(call)

    async def _unless_gone(self, call: Call, *, user: bool = False) -> bool:
        try:
            await self._send(call, read_nothing, user=user)
        except TwitchRefused as error:
            if error.status != 404:
                raise
            return False
        return True

    async def _send(
        self,
        call: Call,
        read: Callable[[bytes], T],
        priority: Priority = Priority.SUBSCRIBE,
        *,
        user: bool = False,
    ) -> T:
        bearer = self._tokens.as_user if user else self._tokens.as_app
        return await self._gate.send_as(bearer, call, read, priority)

    def _call(self, method: str, path: str, params: Params = (), json: object = None) -> Call:
        is_eventsub = path.startswith("/eventsub/")
        call = Call(
            "eventsub" if is_eventsub else "helix",
            method,
            f"{self._url}{path}",
            tuple(params),
            {"Client-Id": self._client_id},
            json=json,
        )
        return replace(call, is_limit=_is_limit) if is_eventsub and method == "POST" else call


def _is_limit(message: str) -> bool:
    return any(noun in message.lower() for noun in LIMITED)


def _batched(asked: Params) -> Iterator[Params]:
    for start in range(0, len(asked), BATCH):
        yield asked[start : start + BATCH]


def _only(call: Call, found: list[Conduit]) -> Conduit:
    if not found:
        raise TwitchUnavailable(f"{call.name} answers with nothing")
    return found[0]


def _endless(call: Call) -> TwitchUnavailable:
    return TwitchUnavailable(f"{call.name} has no last page")
