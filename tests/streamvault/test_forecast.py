from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from streamvault.forecast import Past, make_forecast

NOW = datetime(2026, 11, 27, 18, tzinfo=UTC)
DAY = timedelta(days=1)


def past(days: float, size: int = 10, name: str = "alice", *, running: bool = False) -> Past:
    return Past(name, name.title(), NOW - days * DAY, size, running)


def test_nothing_recorded_needs_nothing() -> None:
    forecast = make_forecast([], 100, NOW)
    assert (forecast.bytes_per_day, forecast.days_left, list(forecast.likely)) == (0, None, [])


def test_the_rate_is_that_of_a_week() -> None:
    forecast = make_forecast([past(20, 700), past(6, 70), past(1, 70)], 100, NOW)
    assert (forecast.bytes_per_day, forecast.days_left) == (20, 5)


def test_who_began_two_days_ago_has_no_week_to_look_back_on() -> None:
    assert make_forecast([past(2, 30), past(1, 30)], 100, NOW).bytes_per_day == 30


def test_who_streams_each_friday_evening_is_likely_on_friday() -> None:
    fridays = [past(7 * week - 0.1, 10 * week) for week in (1, 2, 3, 4)]
    (one,) = make_forecast(fridays, 0, NOW).likely
    assert (one.name, one.chance, one.size_bytes) == ("Alice", 1.0, 25)
    mondays = [past(7 * week - 3) for week in (1, 2, 3, 4)]
    assert list(make_forecast(mondays, 0, NOW).likely) == []


def test_twice_in_four_weeks_is_likely_and_once_is_not() -> None:
    daily = [past(7 * week - 3) for week in (1, 2, 3, 4)]
    twice = [*daily, past(6.9), past(20.9)]
    assert [one.chance for one in make_forecast(twice, 0, NOW).likely] == [0.5]
    assert list(make_forecast([*daily, past(6.9)], 0, NOW).likely) == []


def test_who_is_recorded_now_needs_the_rest_of_the_usual() -> None:
    rows = [past(10, 100), past(9, 200), past(0.1, 40, running=True)]
    forecast = make_forecast(rows, 0, NOW)
    assert [(one.chance, one.size_bytes) for one in forecast.likely] == [(1.0, 110)]
    assert forecast.needed_bytes == 110


def test_who_is_not_followed_is_not_foretold() -> None:
    rows = [Past("", "url", NOW - 6.9 * DAY, 10)]
    forecast = make_forecast(rows, 0, NOW)
    assert list(forecast.likely) == [] and forecast.bytes_per_day > 0


@given(
    st.lists(
        st.builds(
            Past,
            st.sampled_from(["", "a", "b"]),
            st.just("n"),
            st.integers(0, 28 * 24).map(lambda hours: NOW - timedelta(hours=hours)),
            st.integers(1, 10**12),
            st.booleans(),
        )
    ),
    st.integers(-5, 10**13),
)
def test_any_past_gives_a_forecast(rows: list[Past], room: int) -> None:
    forecast = make_forecast(rows, room, NOW)
    assert forecast.bytes_per_day >= 0
    assert forecast.days_left is None or forecast.days_left >= 0
    assert all(0.5 <= one.chance <= 1 and one.size_bytes >= 0 for one in forecast.likely)
