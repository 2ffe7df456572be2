from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvault.templates import DEFAULT, TOKENS, fill, problem_of

VALUES = {"streamer": "Alice", "year": "2026", "episode": "S2026E010203", "title": "A/B {login}"}


def test_the_default_names_files_as_the_contract_says() -> None:
    assert problem_of(DEFAULT) is None
    assert fill(DEFAULT, {**VALUES, "title": "Hello"}) == [
        *("Alice", "Season 2026"),
        "Alice - S2026E010203 - Hello",
    ]


def test_what_is_filled_in_is_no_template_and_no_folder() -> None:
    assert fill("{streamer}/{episode} {title}", VALUES) == ["Alice", "S2026E010203 A/B {login}"]


def test_a_token_without_a_value_is_empty() -> None:
    assert fill("{streamer}/{episode}{category}", VALUES) == ["Alice", "S2026E010203"]


@pytest.mark.parametrize(
    "template", ["{login} {episode}", "a/b/{streamer}/{episode}", "{episode}, 100% {streamer} ä"]
)
def test_a_template_with_streamer_and_episode_works(template: str) -> None:
    assert problem_of(template) is None


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{streamer}/{title}", "{episode}"),
        ("{streamer} {episode}/{title}", "in the file's own name"),
        ("{episode} {title}", "{streamer} or {login}"),
        ("{streamer}/{Episode}", "brace"),
        ("{streamer}/{episode}{size}", "knows no {size}"),
        ("{streamer!r}/{episode}", "brace"),
        ("{title:>999999999}{streamer}/{episode}", "brace"),
        ("{0.__class__}{streamer}{episode}", "brace"),
        ("{{streamer}}{episode}", "brace"),
        ("{streamer}/../{episode}", "dot"),
        ("/{streamer}/{episode}", "without a name"),
        ("{streamer}//{episode}", "without a name"),
        ("{streamer}/{episode}/", "without a name"),
        ("{streamer}/ {episode}", "space around"),
        (".{streamer}/{episode}", "dot"),
        ("C:\\{streamer}\\{episode}", "characters"),
        ("{streamer}\n{episode}", "characters"),
        ("{streamer}\u202e{episode}", "characters"),
        ("a/b/c/{streamer}/{episode}", "more than 3 folders"),
        ("{streamer}{episode}" + "x" * 200, "longer"),
        ("", "without a name"),
    ],
)
def test_a_template_that_cannot_name_files_is_told_why(template: str, words: str) -> None:
    problem = problem_of(template)
    assert problem and words in problem


PIECES = st.sampled_from([*"{}/. -aä%:!\\\n", *(f"{{{token}}}" for token in TOKENS)])


@given(pieces=st.lists(PIECES, max_size=12))
def test_any_text_is_refused_or_fills(pieces: list[str]) -> None:
    template = "".join(pieces)
    if problem_of(template) is None:
        parts = fill(template, dict.fromkeys(TOKENS, "x"))
        assert 1 <= len(parts) <= 4
        assert all(part and "{" not in part and "/" not in part for part in parts)
