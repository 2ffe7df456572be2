"""What the routes share: made once by `create_app`, handed to each route as a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Query, Request

from activities.checkup import Checkup
from activities.pushes import Pushes
from api.playlists import Playlists
from api.readiness import Readiness
from api.temporal import Temporal
from api.twitch import TwitchDoor
from streamvault.db.session import Database
from streamvault.metrics.system import Metrics
from streamvault.settings import Settings

if TYPE_CHECKING:
    from activities.twitch_access import TwitchAccess


@dataclass(frozen=True, slots=True)
class Shared:
    settings: Settings
    db: Database
    temporal: Temporal
    readiness: Readiness
    playlists: Playlists
    metrics: Metrics
    twitch_door: TwitchDoor
    checkup: Checkup
    pushes: Pushes

    async def twitch(self) -> TwitchAccess:
        """Raises TwitchNotConfigured without a client id."""
        return await self.twitch_door.access()


def _shared(request: Request) -> Shared:
    shared: Shared = request.app.state.shared
    return shared


Deps = Annotated[Shared, Depends(_shared)]

Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=64)]
