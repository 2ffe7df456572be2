from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvault.errors import InvalidInput
from streamvault.twitch.eventsub import Message
from streamvault.twitch.frames import Other, Reconnect, Welcome, read_frame

AT = "2026-01-02T03:04:05.123456789Z"


def frame(kind: str, payload: Any = None, **metadata: Any) -> str:
    known = {"message_id": "m1", "message_type": kind, "message_timestamp": AT}
    return json.dumps({"metadata": known | metadata, "payload": payload or {}})


def test_a_welcome_of_march_2025() -> None:
    """As a user of Twitch's forum received it, with a field that is in no documentation."""
    session = {
        "id": "AgoQ",
        "status": "connected",
        "connected_at": AT,
        "keepalive_timeout_seconds": 10,
        "reconnect_url": None,
        "recovery_url": None,
    }
    assert read_frame(frame("session_welcome", {"session": session})) == Welcome("AgoQ", 10.0)


def test_a_welcome_after_a_reconnect_may_say_nothing_of_keepalives() -> None:
    session = {"id": "AgoQ", "keepalive_timeout_seconds": None}
    assert read_frame(frame("session_welcome", {"session": session})) == Welcome("AgoQ", 0.0)


def test_a_reconnect_carries_its_address_as_it_is() -> None:
    url = "wss://eventsub.wss.twitch.tv?id=a%20b&challenge=x"
    payload = {"session": {"id": "AgoQ", "reconnect_url": url}}
    assert read_frame(frame("session_reconnect", payload)) == Reconnect(url)


@pytest.mark.parametrize("kind", ["session_keepalive", "of_tomorrow"])
def test_other_kinds_are_let_pass(kind: str) -> None:
    assert read_frame(frame(kind)) == Other(kind)


def test_a_revocation_has_no_event() -> None:
    about = {"id": "s1", "type": "stream.online", "status": "user_removed"}
    found = read_frame(frame("revocation", {"subscription": about}))
    assert isinstance(found, Message)
    assert (found.kind, found.type, found.subscription_id) == ("revocation", "stream.online", "s1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[]",
        "{}",
        '{"metadata": {}}',
        '{"metadata": {"message_type": 7}}',
        frame("session_welcome", {"session": {}}),
        frame("session_welcome", {"session": None}),
        frame("notification", {"subscription": None}),
        frame("notification", {"subscription": {}, "event": {}}, message_timestamp="yesterday"),
        frame("notification", {"subscription": {}, "event": {}}, message_id=""),
        b"\xff\xfe",
    ],
)
def test_what_is_no_message_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidInput):
        read_frame(text)


json_of_any_kind = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KINDS = ["session_welcome", "session_reconnect", "notification", "revocation", "x"]


@given(st.sampled_from(KINDS), json_of_any_kind, st.sampled_from(["", "session", "subscription"]))
def test_nothing_that_arrives_raises_anything_else(kind: str, payload: Any, key: str) -> None:
    text = frame(kind, {key: payload} if key else payload)
    try:
        read_frame(text)
    except InvalidInput:
        pass
