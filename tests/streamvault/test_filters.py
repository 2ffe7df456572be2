from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvault import filters
from streamvault.filters import Filters, allows, matches, problem_of

NO_FILTERS = Filters()
WORDS = st.text(st.sampled_from("abcäöß ΣσЖ東.-()[]+"), min_size=1).filter(str.strip)


def only(**lists: list[str]) -> Filters:
    return Filters.read(lists)


def test_without_filters_everything_is_recorded() -> None:
    assert allows(NO_FILTERS, "", "") is None
    assert allows(NO_FILTERS, "anything", "Just Chatting") is None


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("speedrun", "Any% SPEEDRUN practice"),
        ("STRASSE", "auf der straße"),
        ("Σας", "ΕΥΧΑΡΙΣΤΏ ΣΑΣ"),
        ("ｗｉｄｅ", "a wide one"),
        ("cafe\u0301", "Café del Mar"),
        ("just   chatting", " Just\tChatting "),
        ("speed*any%", "speedrun, then any%"),
        ("speed * any%", "speed any%"),
        ("*", ""),
        ("/^ep\\. ?\\d+$/", "Ep. 12"),
        ("/СТРИМ|live/", "ночной стрим"),
        ("/a/b", "an /A/B test"),
        ("a.c", "A.C."),
    ],
)
def test_an_entry_is_found_whatever_its_case_width_and_white_space(entry: str, text: str) -> None:
    assert matches(entry, text)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("speedrun", "speed run"),
        ("any%*speed", "speedrun, then any%"),
        ("aba*aba", "ababa"),
        ("a.c", "abc"),
        ("/^ep$/", "an ep"),
        ("cafe", "café"),
        ("x", ""),
    ],
)
def test_what_is_not_there_does_not_match(entry: str, text: str) -> None:
    assert not matches(entry, text)


def test_a_denied_text_wins_over_an_allowed_one() -> None:
    both = only(title_allow=["chess"], title_deny=["rerun"], category_deny=["Slots"])
    assert allows(both, "Chess with friends", "Chess") is None
    assert allows(both, "Chess, a rerun", "Chess") == (
        "its title matches 'rerun', which is not to be recorded"
    )
    assert allows(both, "chess", "slots") == (
        "its category matches 'Slots', which is not to be recorded"
    )
    assert allows(both, "poker", "Poker") == "its title is none of those that are to be recorded"


def test_title_and_category_both_have_to_be_allowed() -> None:
    both = only(title_allow=["marathon", "/day \\d/"], category_allow=["Retro"])
    assert allows(both, "DAY 3", "Retro") is None
    assert allows(both, "Day 3", "Chess") == (
        "its category is none of those that are to be recorded"
    )
    assert allows(both, "day off", "Retro")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("", "is empty"),
        (" \t ", "is empty"),
        ("x" * 201, "longer than 200"),
        ("/(/", "unclosed group"),
        ("/a{2,1}/", "is not a regular expression"),
        ("/(?=a)/", "look-around"),
        (r"/(a)\1/", "backreferences"),
        (r"/\w{1000}{1000}/", "size limit"),
    ],
)
def test_an_entry_that_cannot_work_is_told_why(entry: str, words: str) -> None:
    problem = problem_of(entry)
    assert problem and words in problem
    assert "\n" not in problem


@pytest.mark.parametrize("entry", ["/", "//", "/a", "*", "100%", "/[a-z]+/", "🎲", "x" * 200])
def test_an_entry_that_works_has_no_problem(entry: str) -> None:
    assert problem_of(entry) is None


# Python's own engine needs longer than the age of the universe for the first of them.
@pytest.mark.timeout(60)
@pytest.mark.parametrize("pattern", ["/^(a+)+$/", "/^(a|a)*$/", "/(.*)*x$/", f"/^{'a?' * 90}$/"])
def test_no_pattern_holds_up_detection(pattern: str) -> None:
    assert not matches(pattern, "a" * 999 + "b")


def test_what_another_release_wrote_breaks_nothing() -> None:
    stored = {"title_deny": ["/(/", 7, None, "chess"], "category_allow": "Chess", "mood": ["x"]}
    read = Filters.read(stored)
    assert read == Filters(title_deny=("/(/", "chess"))
    assert allows(read, "poker", "") is None
    assert allows(read, "chess", "") is not None


def test_stored_and_read_again_is_the_same() -> None:
    given_ = only(title_allow=["a", "/b/"], category_deny=["ä"])
    assert given_.stored() == {"title_allow": ["a", "/b/"], "category_deny": ["ä"]}
    assert Filters.read(given_.stored()) == given_
    assert NO_FILTERS.stored() == {}


@given(before=st.text(), entry=WORDS, after=st.text())
def test_a_text_contains_what_was_put_into_it(before: str, entry: str, after: str) -> None:
    # A mark that joins the letter before it makes another letter of that.
    if after and unicodedata.combining(after[0]):
        after = " " + after
    assert matches(entry, f"{before[-100:]} {entry} {after[:100]}")


@given(entry=WORDS, text=WORDS)
def test_case_never_matters(entry: str, text: str) -> None:
    expected = matches(entry, text)
    for change in (str.upper, str.lower, str.swapcase):
        # Final sigma and sharp s change back and forth to other letters, which fold alike.
        assert matches(change(entry), text) == matches(entry, change(text)) == expected


@given(first=WORDS, last=WORDS, between=st.text())
def test_a_star_stands_for_anything(first: str, last: str, between: str) -> None:
    if between and unicodedata.combining(between[0]):
        between = ""
    text = f"{first} {between} {last}"
    if unicodedata.normalize("NFKC", text).casefold().isprintable():
        assert matches(f"{first}*{last}", text[: filters.MAX_TEXT])


@given(text=st.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    assert filters.fold(filters.fold(text)) == filters.fold(text)


@given(entry=st.text(max_size=60), title=st.text(max_size=60), category=st.text(max_size=60))
def test_any_text_has_an_answer(entry: str, title: str, category: str) -> None:
    problem_of(entry)
    for entries in (only(title_allow=[entry]), only(category_deny=[entry])):
        answer = allows(entries, title, category)
        assert answer is None or answer.startswith("its ")


@given(entries=st.lists(WORDS, min_size=1, max_size=5), title=WORDS)
def test_allowing_and_denying_the_same_are_opposites(entries: list[str], title: str) -> None:
    allowed = allows(only(title_allow=entries), title, "") is None
    denied = allows(only(title_deny=entries), title, "") is not None
    assert allowed == denied == any(matches(entry, title) for entry in entries)
