"""The proxies that streams may be fetched through, and which of them is next.

A proxy that let somebody down is last in line for a while, the longer the more often it does. It is
never left out altogether where there is no other way: one that restarts is back within seconds.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from streamvault.contracts import ProxyPolicy
from streamvault.errors import SourceUnavailable
from streamvault.source import Playback, Wish

FIRST_PAUSE_S = 30.0
LONGEST_PAUSE_S = 600.0


@dataclass(frozen=True, slots=True)
class Proxy:
    id: str
    url: str = field(repr=False)
    """http, https, socks5 or socks5h; may hold a password."""
    name: str = ""
    streamer_id: str = ""
    """The only one that it is for; empty: for everybody."""
    ok: bool = True
    """What the last look through it found, in whatever process."""


Known = Callable[[], Sequence[Proxy] | None]
"""The enabled proxies in their order; None: nobody can say at present. Called in any thread."""


@dataclass(slots=True)
class _Record:
    failures: int = 0
    resting_until: float = 0.0
    why: str = ""


class ProxyPool:
    """Chooses routes for wishes. Safe to be used from several threads."""

    def __init__(
        self,
        known: Known,
        default_policy: str = ProxyPolicy.DIRECT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._known = known
        self._default = default_policy
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._lock = threading.Lock()

    @classmethod
    def of_one(cls, url: str | None) -> ProxyPool:
        """The proxy of a setting, through which everything goes; None: none."""
        if url is None:
            return cls(lambda: ())
        proxy = Proxy("env", url, "STREAM_PROXY")
        return cls(lambda: (proxy,), ProxyPolicy.PROXY_ONLY)

    def routes(self, wish: Wish) -> list[Proxy | None]:
        """What to try, one after the other; None is the direct way, and never there under
        `proxy-only`.

        Raises SourceUnavailable when there is no way at all."""
        policy = wish.proxy_policy or self._default
        if policy == ProxyPolicy.DIRECT:
            return [None]
        known = self._known()
        mine = [p for p in known or () if p.streamer_id in ("", wish.streamer_id)]
        if policy == ProxyPolicy.PROXY_FIRST:
            return [*(proxy for proxy in mine if not self._rests(proxy)), None]
        if not mine:
            text = "the proxies are not known yet" if known is None else "there is no proxy"
            raise SourceUnavailable(
                f"{text}, and this stream must not be fetched without one",
                hint="add a proxy, or choose another proxy policy",
            )
        return [*sorted(mine, key=lambda p: (p.id == wish.avoid, self._resting_until(p)))]

    def address_of(self, proxy_id: str) -> str | None:
        """None: there is no such proxy any more."""
        return next((proxy.url for proxy in self._known() or () if proxy.id == proxy_id), None)

    async def readdressed(self, playback: Playback, wish: Wish) -> Playback | None:
        """A session that was kept without its proxy's address, with it; None: by that way the
        stream may not be fetched, or not any more."""
        with suppress(SourceUnavailable):
            for route in self.routes(wish):
                if playback.proxy_id == (route.id if route else ""):
                    return replace(playback, proxy=route.url if route else None)
        return None

    def failed(self, proxy_id: str, why: str) -> None:
        with self._lock:
            record = self._records.setdefault(proxy_id, _Record())
            record.failures += 1
            pause_s = min(FIRST_PAUSE_S * 2.0 ** (record.failures - 1), LONGEST_PAUSE_S)
            record.resting_until = self._clock() + pause_s
            record.why = why

    def worked(self, proxy_id: str) -> None:
        with self._lock:
            self._records.pop(proxy_id, None)

    def trouble_with(self, proxy_id: str) -> str:
        """Why it is last in line at present; empty: it is not."""
        record = self._records.get(proxy_id)
        resting = record is not None and record.resting_until > self._clock()
        return record.why if record is not None and resting else ""

    def _rests(self, proxy: Proxy) -> bool:
        return bool(self._resting_until(proxy))

    def _resting_until(self, proxy: Proxy) -> float:
        """0.0: not resting, so that sorting by it keeps the user's order of those."""
        record = self._records.get(proxy.id)
        if record is None or record.resting_until <= self._clock():
            return 0.0 if proxy.ok else sys.float_info.min
        return record.resting_until
