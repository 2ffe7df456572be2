"""What the doctor says of what was found. Only judging: `activities.checkup` does the looking."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from streamvault.db.credentials import SealedCredential
from streamvault.db.health import Waiting
from streamvault.db.models import Fact, Proxy
from streamvault.hls.room import Room
from streamvault.settings import PREFIX


class CheckState(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """Something is missing, but streams are found and recorded."""
    ERROR = "error"
    OFF = "off"
    """Not set up, and nobody has to."""


@dataclass(frozen=True, slots=True)
class Check:
    """`note` is one line for people, `hint` what to do about it. Neither holds a secret."""

    name: str
    state: CheckState
    note: str = ""
    hint: str = ""


OK, WARNING, ERROR, OFF = CheckState

# Rounds of the poll that may be late before somebody should know.
LATE_ROUNDS = 3
LATE_S = 30.0
# Messages are worked off within a second; trying again takes up to ten minutes.
OLD_MESSAGE = timedelta(minutes=2)
VERY_OLD_MESSAGE = timedelta(minutes=15)
WATCHDOG_SILENT = timedelta(seconds=60)
# Twitch's messages count for ten minutes, and from our future for 30 s.
SKEW_S = 5.0
MUCH_SKEW_S = 25.0
EXPIRES_SOON = timedelta(days=7)
NAMED = 5
FOUND_ALL_THE_SAME = "the poll finds streams all the same, some seconds later"
# State of another process that nobody has confirmed for so long says nothing any more.
STALE = timedelta(minutes=5)


def of_workers(polled: Mapping[str, int]) -> Check:
    """`polled` counts the pollers of each task queue that somebody must poll."""
    idle = [queue for queue, pollers in polled.items() if not pollers]
    if not idle:
        return Check("workers", OK, f"{', '.join(polled)} are polled")
    return Check(
        "workers",
        ERROR,
        f"nobody polls {', '.join(idle)}",
        "start the workers: ./sv up, or ./sv worker",
    )


def of_storage(room: Room) -> Check:
    """Below its reserve no recording goes on."""
    note = f"{room.free_bytes / 1e9:,.0f} of {room.size_bytes / 1e9:,.0f} GB are free"
    used_up = room.free_bytes < room.reserve_bytes or not room.free_files
    if not used_up and not room.is_little():
        return Check("storage", OK, note)
    note += "" if room.free_files else ", and no more files can be made"
    state = ERROR if used_up else WARNING
    return Check("storage", state, note, "delete recordings, or move the library to a larger disk")


def of_circuits(reports: Mapping[str, Mapping[str, Any]]) -> Check:
    """`reports` tells of each group of Twitch's endpoints: `state` and `retry_after_s`."""
    broken = sorted(name for name, report in reports.items() if report["state"] != "closed")
    if not broken:
        return Check("twitch_api", OK, "Twitch answers" if reports else "not asked yet")
    waits_s = max(float(reports[name].get("retry_after_s", 0)) for name in broken)
    note = f"{', '.join(broken)} failed and is asked again in {waits_s:.0f} s"
    return Check("twitch_api", WARNING, note, "running recordings go on; look at Twitch's status")


def without_twitch() -> list[Check]:
    note = "no Twitch application is set up"
    hint = f"set {PREFIX}TWITCH_CLIENT_ID and {PREFIX}TWITCH_CLIENT_SECRET to follow channels"
    names = ("twitch_api", "app_token", "account", "eventsub", "subscriptions", "clock")
    return [Check(name, OFF, note, hint) for name in names]


def of_app_token(row: SealedCredential | None, now: datetime) -> Check:
    if row is None:
        return Check("app_token", WARNING, "none yet: nobody has asked Twitch for one")
    hint = f"check {PREFIX}TWITCH_CLIENT_ID and {PREFIX}TWITCH_CLIENT_SECRET"
    return _of_token("app_token", row, now, hint)


def of_account(row: SealedCredential | None, now: datetime) -> Check:
    if row is None:
        return Check("account", OFF, "nobody has signed in with Twitch")
    return _of_token("account", row, now, "sign in with Twitch again; recordings go on meanwhile")


def of_browser_token(row: SealedCredential | None, now: datetime) -> Check:
    if row is None:
        return Check("browser_token", OFF, "none is stored")
    hint = "copy a new one from the browser; recordings go on without it"
    check = _of_token("browser_token", row, now, hint)
    if check.state is not OK:
        return check
    if row.expires_at and row.expires_at - now < EXPIRES_SOON:
        # Nobody but a person can bring a new one.
        return Check("browser_token", WARNING, check.note, hint)
    if row.validated_at is None:
        return Check("browser_token", WARNING, "Twitch has not been asked about it yet")
    return check


def _of_token(name: str, row: SealedCredential, now: datetime, hint: str) -> Check:
    """An access token that has ended is no problem where it is renewed at its next use."""
    login = str(row.about.get("login", ""))
    whose = f"of {login}, " if login else ""
    if not row.valid:
        return Check(name, ERROR, f"{whose}not valid: {row.about.get('problem', 'refused')}", hint)
    if row.expires_at is None:
        return Check(name, OK, f"{whose}valid")
    left = row.expires_at - now
    if left > timedelta(days=2):
        return Check(name, OK, f"{whose}valid for {left.days} days")
    return Check(name, OK, f"{whose}valid until {row.expires_at:%Y-%m-%d %H:%M} UTC")


def of_proxies(rows: Sequence[Proxy]) -> Check:
    """By the last look through each; the control worker looks every minute."""
    used = [row for row in rows if row.enabled]
    if not used:
        return Check("proxies", OFF, "none are stored" if not rows else "all are switched off")
    bad = [row for row in used if row.ok is False]
    if not bad:
        working = sum(row.ok is True for row in used)
        note = f"{working} of {len(used)} work" if working else "not looked through yet"
        return Check("proxies", OK, note)
    names = ", ".join(f"{row.name} ({row.error})" for row in bad[:NAMED])
    note = f"{len(bad)} of {len(used)} do not work: {names}"
    hint = "see /api/proxies; streams that may be fetched by another way are"
    return Check("proxies", ERROR if len(bad) == len(used) else WARNING, note, hint)


def of_eventsub(fact: Fact | None) -> Check:
    if fact is None:
        return Check("eventsub", WARNING, "no worker has told yet", "is a control worker running?")
    value = fact.value
    transport, wanted = str(value.get("transport", "poll")), str(value.get("wanted", ""))
    reason = str(value.get("reason", ""))
    if value.get("connected") is False:
        return Check("eventsub", WARNING, f"{transport}: not connected", FOUND_ALL_THE_SAME)
    if transport == wanted or not wanted:
        return Check("eventsub", OK, f"{transport}: {reason}" if reason else transport)
    note = f"{transport} in place of {wanted}: {reason}" if reason else transport
    return Check("eventsub", WARNING, note, FOUND_ALL_THE_SAME)


def of_subscriptions(fact: Fact | None) -> Check:
    value = fact.value if fact else {}
    desired = int(value.get("desired", 0))
    by_status: Mapping[str, int] = value.get("by_status", {})
    enabled = int(by_status.get("enabled", 0))
    if not desired:
        return Check("subscriptions", OFF, "none are needed")
    note = f"{enabled} of {desired} are enabled"
    if enabled >= desired:
        return Check("subscriptions", OK, note)
    why = [f"{count} {status}" for status, count in by_status.items() if status != "enabled"]
    why += [str(value["problem"])] if value.get("problem") else []
    hint = "they are made again every ten minutes; the poll finds streams meanwhile"
    return Check("subscriptions", WARNING, "; ".join([note, *why]), hint)


def of_poll(
    fact: Fact | None, interval_s: float, now: datetime, *, asks_helix: bool = True
) -> Check:
    if fact is None:
        return Check("poll", ERROR, "no round is known of", "is a control worker running?")
    age_s = (now - fact.updated_at).total_seconds()
    note = f"the last round was {age_s:.0f} s ago"
    if age_s > LATE_ROUNDS * interval_s + LATE_S:
        return Check("poll", ERROR, note, "is a control worker running?")
    why = str(fact.value.get("why", "")) if asks_helix else ""
    return Check("poll", WARNING if why else OK, f"{note}, without Helix: {why}" if why else note)


def of_watchdog(fact: Fact | None, now: datetime) -> Check:
    if fact is None:
        return Check("watchdog", WARNING, "it has not looked yet", "is a control worker running?")
    age = now - fact.updated_at
    if age > WATCHDOG_SILENT:
        note = f"silent for {age.total_seconds():.0f} s"
        return Check("watchdog", ERROR, note, "is a control worker running?")
    for note, hint in _complaints(fact.value):
        return Check("watchdog", WARNING, note, hint)
    number, away = int(fact.value["recordings"]), int(fact.value.get("reconnecting", 0))
    note = f"looks after {number} unfinished recordings"
    return Check("watchdog", OK, f"{note}, {away} of them reconnecting" if away else note)


def _complaints(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the watchdog found and cannot help, with what to do; the worst first."""
    number, silent = int(told["recordings"]), int(told["silent"])
    neglected: Mapping[str, Sequence[str]] = told.get("neglected", {})
    if told.get("problem"):
        yield f"could not see to everything: {told['problem']}", "is Temporal running?"
    if silent:
        note = f"the recorder does not tell of {silent} of {number} unfinished recordings"
        yield note, "is the recorder running?"
    if bare := neglected.get("without_journal"):
        yield f"{len(bare)} recordings have no journal", f"look at the folder of {bare[0]}"
    if live := neglected.get("live"):
        names = ", ".join(live[:NAMED])
        yield f"live and not recorded: {names}", "the poll tries again; see the log for why"


def of_inbox(waiting: Waiting, now: datetime) -> Check:
    if waiting.inbox_oldest_at is None:
        return Check("inbox", OK, "empty")
    age = now - waiting.inbox_oldest_at
    note = f"{waiting.inbox} waiting, the oldest for {age.total_seconds():.0f} s"
    if age < OLD_MESSAGE:
        return Check("inbox", OK, note)
    state = ERROR if age > VERY_OLD_MESSAGE else WARNING
    return Check("inbox", state, note, "is a control worker running?")


def of_dead_letters(waiting: Waiting) -> Check:
    number = waiting.dead_letters + waiting.parked
    if not number:
        return Check("dead_letters", OK, "none")
    return Check("dead_letters", WARNING, f"{number} need a person", "see /api/dead-letters")


def of_clock(fact: Fact | None) -> Check:
    """By the Date of Twitch's answers; `skew_s` is how far its clock is ahead of ours."""
    if fact is None:
        return Check("clock", OFF, "nothing to compare with yet")
    skew_s = float(fact.value["skew_s"])
    if abs(skew_s) <= SKEW_S:
        return Check("clock", OK, "agrees with Twitch's")
    note = f"{abs(skew_s):.0f} s {'behind' if skew_s > 0 else 'ahead of'} Twitch's"
    state = ERROR if abs(skew_s) > MUCH_SKEW_S else WARNING
    return Check("clock", state, note, "set the clock: messages of Twitch count by their time")


def overall(checks: Collection[Check], vital: Collection[str]) -> str:
    """`down` when one of the `vital` ones is in error, `degraded` for anything else that is not as
    it should be."""
    if any(check.state is ERROR and check.name in vital for check in checks):
        return "down"
    return "degraded" if any(check.state in (WARNING, ERROR) for check in checks) else "ok"
