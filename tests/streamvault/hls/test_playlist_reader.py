"""Reading a playlist again must come to what reading it alone does, whatever changed in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvault.errors import PlaylistError
from streamvault.hls.playlist import MediaPlaylist, PlaylistReader, parse_media_playlist

URL = "https://edge.example/v1/live.m3u8"
HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n"


def block(number: int, *tags: str) -> str:
    lines = (*tags, "#EXTINF:2.000,live", f"https://edge.example/{number}.ts")
    return "\n".join(lines) + "\n"


def at(number: int) -> str:
    return f"#EXT-X-PROGRAM-DATE-TIME:2020-01-01T08:00:{2 * number:02d}.000Z"


def listing(numbers: Sequence[int], *, head: str = HEAD, end: str = "") -> str:
    blocks = "".join(block(n, at(n)) for n in numbers)
    return f"{head}#EXT-X-MEDIA-SEQUENCE:{numbers[0]}\n{blocks}{end}"


def outcome(reader: PlaylistReader, text: str, url: str = URL) -> MediaPlaylist | str:
    try:
        return reader.read(text, url)
    except PlaylistError as error:
        return str(error)


def alone(text: str, url: str = URL) -> MediaPlaylist | str:
    return outcome(PlaylistReader(), text, url)


def test_what_was_read_before_is_taken_over() -> None:
    reader = PlaylistReader()
    before = reader.read(listing(range(0, 5), end="#EXT-X-TWITCH-PREFETCH:https://x/\n"), URL)
    after = reader.read(listing(range(1, 7)), URL)
    assert [s.number for s in after.segments] == [1, 2, 3, 4, 5, 6]
    assert all(
        new is old for new, old in zip(after.segments[1:], before.segments[2:], strict=False)
    )


def test_a_line_that_is_wrong_is_named_by_its_number_in_the_whole_text() -> None:
    reader = PlaylistReader()
    reader.read(listing(range(0, 5)), URL)
    text = listing(range(1, 6)) + "#EXTINF:x,\n"
    with pytest.raises(PlaylistError, match=f"^line {text.count(chr(10))}: "):
        reader.read(text, URL)


@pytest.mark.parametrize(
    "second",
    [
        listing(range(40, 45)),
        listing(range(0, 5)).replace("SEQUENCE:0", "SEQUENCE:100"),
        listing(range(0, 5)).replace("/2.ts", "/2b.ts"),
        listing(range(0, 5)).replace("/2.ts", "/2.ts\n#EXT-X-DISCONTINUITY"),
        listing(range(0, 6)).replace(at(0), '#EXT-X-MAP:URI="i.mp4"'),
        listing(range(0, 6)).replace(at(0), '#EXT-X-MAP:URI="i.mp4"\n' + at(0)),
        listing(range(0, 6), head=HEAD + '#EXT-X-DATERANGE:ID="stitched-ad-1",'
                'START-DATE="2020-01-01T08:00:04Z",DURATION=4\n'),
        listing(range(0, 5), end="#EXT-X-ENDLIST\n"),
        listing(range(0, 5)) + "#EXT-X-TARGETDURATION:9\n" + block(5),
        listing(range(0, 5)) + block(5, "#EXT-X-KEY:METHOD=AES-128"),
        listing(range(0, 5)) + block(5, "#EXT-X-BYTERANGE:10"),
        listing(range(0, 3)),
        HEAD,
        "#EXTM3U\n",
        "<html>",
    ],
    ids=["far on", "renumbered", "another address", "a break", "a map for a date", "a map",
         "an ad", "the end", "another target", "a key", "a range", "shorter", "no segment",
         "nothing", "a page"],
)  # fmt: skip
def test_whatever_changes_the_outcome_is_that_of_the_text_alone(second: str) -> None:
    reader = PlaylistReader()
    for text in (listing(range(0, 5)), second, listing(range(1, 7)), second):
        assert outcome(reader, text) == alone(text)


def blocks(*parts: str) -> str:
    return HEAD + "".join(parts)


RANGE = "#EXT-X-BYTERANGE:100"
MAP = '#EXT-X-MAP:URI="i.mp4"'


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            blocks(block(0, at(0)), block(1), block(2)),
            blocks("#EXT-X-MEDIA-SEQUENCE:1\n", block(1), block(2), block(3)),
        ),
        (
            blocks(block(0, at(0)), block(1), block(2)),
            blocks(block(0, at(0)).replace("2.000", "3.000"), block(1), block(2)),
        ),
        (
            blocks(block(0), block(1, MAP), block(2)),
            blocks(block(0), block(1, MAP), block(2), block(3)),
        ),
        (
            blocks(block(0, RANGE + "@0"), block(0, RANGE)),
            blocks(block(0, RANGE + "@50"), block(0, RANGE)),
        ),
        (
            blocks(block(0, RANGE + "@0"), block(0, RANGE)),
            blocks(block(9, RANGE + "@0"), block(0, RANGE)),
        ),
        (
            blocks(block(0, RANGE + "@0"), block(0, RANGE)),
            blocks(block(0, RANGE + "@0"), block(0, RANGE), block(0, RANGE)),
        ),
        (
            blocks(block(0), "#EXT-X-TARGETDURATION:9\n", block(1)),
            blocks(block(0), "#EXT-X-TARGETDURATION:9\n", block(1), block(2)),
        ),
    ],
    ids=["no date any more", "another duration", "a map inside", "another range before",
         "another address before", "ranges go on", "a target inside"],
)  # fmt: skip
def test_what_goes_from_one_segment_to_the_next_still_does(first: str, second: str) -> None:
    reader = PlaylistReader()
    reader.read(first, URL)
    assert outcome(reader, second) == alone(second)


def test_another_address_of_the_playlist_changes_relative_ones() -> None:
    reader = PlaylistReader()
    text = listing(range(0, 3)).replace("https://edge.example/2", "2")
    reader.read(text, URL)
    other = "https://other.example/live.m3u8"
    assert reader.read(text, other) == parse_media_playlist(text, other)


# ---- any stream, seen through any windows

TAGS = (
    "#EXT-X-DISCONTINUITY",
    '#EXT-X-MAP:URI="init-a.mp4"',
    '#EXT-X-MAP:URI="init-b.mp4",BYTERANGE="100@5"',
    "#EXT-X-BYTERANGE:100@0",
    "#EXT-X-BYTERANGE:100",
    "#EXT-X-KEY:METHOD=NONE",
    "#EXT-X-TARGETDURATION:8",
    "#EXT-X-DISCONTINUITY-SEQUENCE:3",
    "#EXT-X-ENDLIST",
    "#EXT-X-TWITCH-PREFETCH:https://edge.example/next.ts",
    '#EXT-X-DATERANGE:ID="stitched-ad-7",START-DATE="2020-01-01T08:00:06Z",DURATION=5',
    '#EXT-X-DATERANGE:ID="source",CLASS="twitch-stream-source",START-DATE="2020-01-01T08:00:00Z"',
    "",
    "#EXT-X-PROGRAM-DATE-TIME:not a date",
)
HEADS = (
    "",
    "#EXT-X-DISCONTINUITY-SEQUENCE:1\n",
    '#EXT-X-MAP:URI="init-a.mp4"\n',
    "#EXT-X-PROGRAM-DATE-TIME:2020-01-01T08:00:01Z\n",
    '#EXT-X-DATERANGE:ID="stitched-ad-9",START-DATE="2020-01-01T08:00:02Z",END-DATE='
    '"2020-01-01T08:00:09Z"\n',
)
TAILS = ("", "#EXT-X-ENDLIST\n", "#EXTINF:2,\n", "#EXT-X-DISCONTINUITY\n", "\r\n", "  ", "junk\n")


@dataclass(frozen=True)
class Entry:
    """One segment of a stream: common tags, or rare ones too."""

    date: bool
    address: int
    tags: list[str] = field(default_factory=list)

    def text(self, number: int) -> str:
        return block(self.address, *self.tags, *([at(number)] if self.date else []))


ENTRIES = st.lists(
    st.builds(
        Entry,
        # Mostly as in life, so that most windows do share their lines.
        st.sampled_from([True, True, True, False]),
        st.integers(0, 8),
        st.one_of(*[st.just([])] * 3, st.lists(st.sampled_from(TAGS), max_size=2)),
    ),
    min_size=1,
    max_size=14,
)


@given(st.data())
def test_any_series_of_windows_reads_as_each_alone(data: st.DataObject) -> None:
    entries = data.draw(ENTRIES)
    reader = PlaylistReader()
    first = 0
    for _ in range(data.draw(st.integers(2, 5))):
        first += data.draw(st.sampled_from([0, 0, 1, 1, 2, -1]))
        start = min(max(first, 0), len(entries))
        window = range(start, min(start + data.draw(st.integers(1, 8)), len(entries)))
        shift = data.draw(st.sampled_from([0, 0, 0, 0, 3]))
        head = data.draw(st.sampled_from((*HEADS[:1] * 4, *HEADS)))
        tail = data.draw(st.sampled_from((*TAILS[:1] * 6, *TAILS)))
        url = data.draw(st.sampled_from([URL, URL, URL, "https://b.example/x.m3u8"]))
        text = (
            f"{HEAD}#EXT-X-MEDIA-SEQUENCE:{start + shift}\n{head}"
            + "".join(entries[number].text(number) for number in window)
            + tail
        )
        assert outcome(reader, text, url) == alone(text, url)
