"""What Helix says about channels, field by field."""

from __future__ import annotations

import time
from typing import Any

from tests.fake_twitch.streams import Stream
from tests.fake_twitch.times import whole_seconds
from tests.fake_twitch.world import Channel

Body = dict[str, Any]


def user(channel: Channel, images_url: str) -> Body:
    return {
        "id": channel.user_id,
        "login": channel.login,
        "display_name": channel.name,
        "type": "",
        "broadcaster_type": "",
        "description": channel.description,
        "profile_image_url": f"{images_url}/jtv_user_pictures/{channel.user_id}-300x300.png",
        "offline_image_url": "",
        "view_count": 0,
        "created_at": "2020-01-01T00:00:00Z",
    }


def stream(channel: Channel, images_url: str) -> Body | None:
    """What Get Streams says; it learns of a change `helix_lag_s` later."""
    lag = channel.options.helix_lag_s
    behind = time.time() < channel.changed_at + lag
    ended = channel.ending.stream if channel.ending else None
    live = (None if channel.stream else ended) if behind else channel.stream
    if live is None:
        return None
    picture = f"{images_url}/previews-ttv/live_user_{channel.login}-{{width}}x{{height}}.jpg"
    return {
        "id": live.id,
        "user_id": channel.user_id,
        "user_login": channel.login,
        "user_name": channel.name,
        "game_id": channel.category_id,
        "game_name": channel.category,
        "type": live.options.kind,
        "title": channel.title,
        "tags": list(channel.tags),
        "tag_ids": [],
        "viewer_count": 1,
        "started_at": whole_seconds(live.started_at),
        "language": channel.language,
        "thumbnail_url": picture,
        "is_mature": False,
    }


def channel_information(channel: Channel) -> Body:
    return {
        "broadcaster_id": channel.user_id,
        "broadcaster_login": channel.login,
        "broadcaster_name": channel.name,
        "broadcaster_language": channel.language,
        "game_id": channel.category_id,
        "game_name": channel.category,
        "title": channel.title,
        "delay": 0,
        "tags": list(channel.tags),
        "content_classification_labels": [],
        "is_branded_content": False,
    }


def game(category_id: str, name: str, images_url: str) -> Body:
    art = f"{images_url}/ttv-boxart/{category_id}-{{width}}x{{height}}.jpg"
    return {"id": category_id, "name": name, "box_art_url": art, "igdb_id": ""}


def video(channel: Channel, past: Stream) -> Body:
    """The archive of a stream; that of a live one grows."""
    video_id = str(int(past.id) % 10**10)
    started = whole_seconds(past.started_at)
    return {
        "id": video_id,
        "stream_id": past.id,
        "user_id": channel.user_id,
        "user_login": channel.login,
        "user_name": channel.name,
        "title": past.title,
        "description": "",
        "created_at": started,
        "published_at": started,
        "url": f"https://www.twitch.tv/videos/{video_id}",
        "thumbnail_url": "",
        "viewable": "public",
        "view_count": 1,
        "language": channel.language,
        "type": "archive",
        "duration": _duration(int((past.ended_at or time.time()) - past.started_at)),
        "muted_segments": None,
    }


def followed(channel: Channel, since: float) -> Body:
    return {
        "broadcaster_id": channel.user_id,
        "broadcaster_login": channel.login,
        "broadcaster_name": channel.name,
        "followed_at": whole_seconds(since),
    }


def _duration(seconds: int) -> str:
    """As in 3h8m33s, without what is zero in front."""
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    return f"{text}{seconds % 60}s"
