"""Signatures by the rule of Twitch's page; bodies as the official CLI sends them."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvault.errors import InvalidInput
from streamvault.twitch.eventsub import (
    ChannelUpdate,
    Kind,
    Message,
    Revocation,
    StreamOffline,
    StreamOnline,
    Unknown,
    is_fresh,
    is_signed,
    parse_event,
    parse_message,
    parse_time,
    parse_webhook,
)

SECRET = b"s3cre7s3cre7"
ID = b"befa7b53-d79d-478f-86b9-120f112b044e"
AT = b"2026-03-11T10:20:30.123456789Z"
WHO = {
    "broadcaster_user_id": "1337",
    "broadcaster_user_login": "cool_user",
    "broadcaster_user_name": "Cool_User",
}


def sign(body: bytes, *, secret: bytes = SECRET, id_: bytes = ID, at: bytes = AT) -> bytes:
    digest = hmac.new(secret, id_ + at + body, hashlib.sha256)
    return b"sha256=" + digest.hexdigest().encode()


def subscription(type_: str = "stream.online", **more: Any) -> dict[str, Any]:
    return {
        "id": "f1c2a387-161a-49f9-a165-0f21d7a4e1c4",
        "status": "enabled",
        "type": type_,
        "version": "1",
        "condition": {"broadcaster_user_id": "1337"},
        "transport": {"method": "webhook", "callback": "https://example.com/eventsub"},
        "created_at": "2026-03-11T10:11:12.634234626Z",
        "cost": 0,
        **more,
    }


def notified(type_: str, event: dict[str, Any]) -> Message:
    message = parse_message(
        "notification",
        ID.decode(),
        AT.decode(),
        {"subscription": subscription(type_), "event": event},
    )
    assert message is not None
    return message


# ---- signatures


def test_a_signature_over_id_time_and_body_is_twitchs() -> None:
    assert is_signed(ID, AT, b'{"a": 1}', sign(b'{"a": 1}'), [SECRET])


def test_while_secrets_rotate_both_are_good() -> None:
    body, new = b"{}", b"another-secret"
    for secret in (SECRET, new):
        assert is_signed(ID, AT, body, sign(body, secret=secret), [new, SECRET])
    assert not is_signed(ID, AT, body, sign(body), [new])


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"sha256=",
        sign(b"{}")[:-1],
        sign(b"{}") + b"0",
        sign(b"{}").upper(),
        b"sha256=" + sign(b"{}")[7:].upper(),
        sign(b"{}").replace(b"sha256=", b"sha1="),
        sign(b"{}")[7:],
        sign(b"{}", secret=b"another-secret"),
        "sha256=ünïcode".encode(),
        b"sha256=" + b"\xff" * 64,
        b" " + sign(b"{}"),
    ],
)
def test_anything_else_is_not(signature: bytes) -> None:
    assert not is_signed(ID, AT, b"{}", signature, [SECRET])


def test_without_a_secret_nothing_is_genuine() -> None:
    assert not is_signed(ID, AT, b"{}", sign(b"{}", secret=b""), [])


@settings(deadline=None)
@given(st.data())
def test_one_changed_byte_breaks_the_signature(data: st.DataObject) -> None:
    body = json.dumps({"subscription": subscription(), "event": WHO}).encode()
    parts = [ID, AT, body]
    signature = sign(body)
    which = data.draw(st.integers(0, 2))
    where = data.draw(st.integers(0, len(parts[which]) - 1))
    changed = bytearray(parts[which])
    changed[where] ^= data.draw(st.integers(1, 255))
    parts[which] = bytes(changed)
    assert not is_signed(*parts, signature, [SECRET])


@settings(deadline=None)
@given(st.integers(-20, 20).filter(bool), st.integers(-9, 20))
def test_a_signed_message_cannot_be_cut_into_another(first: int, second: int) -> None:
    """Cut elsewhere, the whole keeps its signature, and under another id it would not be known."""
    body = json.dumps({"subscription": subscription(), "event": WHO}).encode()
    whole = ID + AT + body
    a, b = len(ID) + first, len(ID) + len(AT) + second
    id_, at, rest = whole[:a], whole[a:b], whole[b:]
    assert is_signed(id_, at, rest, sign(body), [SECRET])
    with pytest.raises(InvalidInput):
        parse_webhook(b"notification", id_, at, rest)


# ---- times


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-03-11T10:20:30.123456789Z", datetime(2026, 3, 11, 10, 20, 30, 123456, UTC)),
        ("2026-03-11T10:20:30Z", datetime(2026, 3, 11, 10, 20, 30, 0, UTC)),
        ("2026-03-11T11:20:30.5+01:00", datetime(2026, 3, 11, 10, 20, 30, 500000, UTC)),
    ],
)
def test_times_have_up_to_nine_digits(text: str, at: datetime) -> None:
    assert parse_time(text) == at


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "1773224430", "2026-03-11", "2026-03-11T10:20:30", "2026-03-11 10:20:30Z"),
        *("2026-13-11T10:20:30Z", "2026-03-11T10:20:60Z", "2026-W11-3T10:20:30Z"),
        *("20260311T102030Z", "2026-03-11T10:20:30.Z", "2026-03-11T10:20:30Z\n"),
        *("2026-03-11T10:20:30.1234567890Z", "\u0662026-03-11T10:20:30Z"),
    ],
)
def test_other_forms_are_no_time(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_time(text)


@pytest.mark.parametrize(
    ("age", "fresh"),
    [
        (timedelta(0), True),
        (timedelta(minutes=10), True),
        (timedelta(minutes=10, seconds=1), False),
        (timedelta(seconds=-30), True),
        (timedelta(seconds=-31), False),
    ],
)
def test_ten_minutes_back_and_half_a_minute_ahead(age: timedelta, fresh: bool) -> None:
    now = datetime(2026, 3, 11, tzinfo=UTC)
    assert is_fresh(now - age, now) is fresh


# ---- messages


def test_a_challenge_is_read_from_a_verification() -> None:
    pending = subscription(status="webhook_callback_verification_pending")
    body = json.dumps({"challenge": "pogchamp-kappa", "subscription": pending}).encode()
    message = parse_webhook(b"webhook_callback_verification", ID, AT, body)
    assert message is not None
    assert (message.kind, message.challenge) == (Kind.VERIFICATION, "pogchamp-kappa")


def test_a_message_keeps_what_we_read_and_nothing_of_the_transport() -> None:
    message = notified("stream.online", {"id": "9001", **WHO, "type": "live", "extra": {"a": []}})
    assert (message.id, message.type) == (ID.decode(), "stream.online")
    assert message.subscription_id == "f1c2a387-161a-49f9-a165-0f21d7a4e1c4"
    assert message.sent_at == datetime(2026, 3, 11, 10, 20, 30, 123456, UTC)
    assert set(message.payload) == {"subscription", "event"}
    assert message.payload["subscription"]["condition"] == {"broadcaster_user_id": "1337"}
    assert "example.com" not in json.dumps(message.payload)
    assert "extra" not in message.payload["event"]


def test_a_kind_of_message_that_is_new_is_nothing_wrong() -> None:
    assert parse_webhook(b"celebration", ID, AT, b"{}") is None


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("notification", b""),
        ("notification", b"null"),
        ("notification", b"[1]"),
        ("notification", b"{"),
        ("notification", b"[" * 60_000),
        ("notification", b'{"subscription": 5, "event": {}}'),
        ("notification", b'{"event": {}}'),
        ("notification", b'{"subscription": {}, "event": []}'),
        ("notification", b'{"subscription": {}}'),
        ("revocation", b'{"subscription": {}, "event": {}}'),
        ("revocation", b'{"subscription": {}, "challenge": "x"}'),
        ("webhook_callback_verification", b'{"subscription": {}}'),
        ("webhook_callback_verification", b'{"subscription": {}, "challenge": 5}'),
        ("webhook_callback_verification", b'{"subscription": {}, "challenge": "x", "event": {}}'),
        ("notification", b"\xff\xfe"),
        ("notification", b"1" * 5_000),
    ],
)
def test_what_makes_no_sense_is_said_to(kind: str, body: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_webhook(kind.encode(), ID, AT, body)


@pytest.mark.parametrize("id_", [b"", b"a b", b"\xff", b"x" * 201])
def test_an_id_is_a_short_word(id_: bytes) -> None:
    body = json.dumps({"subscription": subscription(), "event": {}}).encode()
    with pytest.raises(InvalidInput):
        parse_webhook(b"notification", id_, AT, body)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.sampled_from(["title", "id", "broadcaster_user_id", "type"]), json_values)
def test_whatever_a_field_holds_postgresql_can_store_it(name: str, value: Any) -> None:
    message = notified("channel.update", {**WHO, name: value})
    stored = message.payload["event"][name]
    assert isinstance(stored, str) and len(stored) <= 1_000
    assert "\0" not in stored
    stored.encode()
    parse_event(message.type, message.payload)


# ---- events


def test_a_stream_goes_online() -> None:
    event = {"id": "9001", **WHO, "type": "live", "started_at": "2026-03-11T10:11:12.123Z"}
    message = notified("stream.online", event)
    assert parse_event(message.type, message.payload) == StreamOnline(
        "1337",
        "cool_user",
        "Cool_User",
        "9001",
        "live",
        datetime(2026, 3, 11, 10, 11, 12, 123000, UTC),
    )


def test_a_start_without_a_readable_time_is_still_a_start() -> None:
    message = notified("stream.online", {"id": "9001", **WHO, "type": "live", "started_at": "?"})
    event = parse_event(message.type, message.payload)
    assert isinstance(event, StreamOnline) and event.started_at is None


def test_a_stream_goes_offline() -> None:
    message = notified("stream.offline", WHO)
    assert parse_event(message.type, message.payload) == StreamOffline(
        "1337", "cool_user", "Cool_User"
    )


def test_a_channel_changes() -> None:
    change = {
        "title": "Best Stream Ever 🎉",
        "language": "en",
        "category_id": "12453",
        "category_name": "Grand Theft Auto",
        "content_classification_labels": ["MatureGame"],
    }
    message = notified("channel.update", {**WHO, **change})
    assert parse_event(message.type, message.payload) == ChannelUpdate(
        "1337", "cool_user", "Cool_User", "Best Stream Ever 🎉", "Grand Theft Auto", "12453"
    )


def test_a_subscription_is_revoked() -> None:
    revoked = {"subscription": subscription(status="a_reason_of_next_year")}
    message = parse_message("revocation", ID.decode(), AT.decode(), revoked)
    assert message is not None
    assert parse_event(message.type, message.payload) == Revocation(
        "f1c2a387-161a-49f9-a165-0f21d7a4e1c4",
        "stream.online",
        "a_reason_of_next_year",
        {"broadcaster_user_id": "1337"},
    )


@pytest.mark.parametrize(
    ("type_", "event"),
    [
        ("channel.raid", WHO),
        ("stream.online", {**WHO, "type": "live"}),
        ("stream.online", {"id": "9001", "type": "live"}),
        ("stream.offline", {}),
    ],
)
def test_other_types_and_events_about_nobody_are_unknown(type_: str, event: dict[str, Any]) -> None:
    message = notified(type_, event)
    assert parse_event(message.type, message.payload) == Unknown(type_)
