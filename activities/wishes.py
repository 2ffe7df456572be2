"""What the settings of a streamer say of how its streams are fetched."""

from __future__ import annotations

from streamvault.db.models import Streamer
from streamvault.source import Wish


def wish_of(streamer: Streamer | None, url: str) -> Wish:
    """None: a source of nobody that we follow."""
    if streamer is None:
        return Wish(url)
    return Wish(
        url,
        codecs=tuple(filter(None, streamer.codecs.split(","))),
        proxy_policy=streamer.proxy_policy,
        streamer_id=str(streamer.id),
    )
