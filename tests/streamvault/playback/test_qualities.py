from __future__ import annotations

import pytest

from streamvault.errors import InvalidInput
from streamvault.playback.qualities import Rule, check_quality, parse_quality


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("best", (Rule("best"),)),
        (" Worst ", (Rule("worst"),)),
        ("1080p60", (Rule("1080p60"),)),
        ("<=720p", (Rule(max_height=720),)),
        ("best<=1080p60", (Rule(max_height=1080, max_fps=60),)),
        (
            "1440p60, <=1080p,worst",
            (Rule("1440p60"), Rule(max_height=1080), Rule("worst")),
        ),
    ],
)
def test_rules_are_read_in_their_order(text: str, rules: tuple[Rule, ...]) -> None:
    assert parse_quality(text) == rules


@pytest.mark.parametrize(
    "text", ["", "best,", "<=p60", "<=1080", ">=720p", "-o /etc/passwd", "a b", "best" * 60]
)
def test_what_is_no_quality_says_what_is(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_quality(text)
    assert "<=1080p60" in caught.value.hint
