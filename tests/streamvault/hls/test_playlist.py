"""Truth here is RFC 8216, and streamlink's Twitch parser for what Twitch adds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlink.plugins.twitch import TwitchM3U8Parser

from streamvault.errors import EncryptedStream, PlaylistError
from streamvault.hls.playlist import (
    MAX_SEGMENTS,
    InitSection,
    is_master,
    parse_master_playlist,
    parse_media_playlist,
)

URL = "https://edge.example/v1/playlist/token.m3u8"
EIGHT = 1_577_865_600.0  # 2020-01-01T08:00:00Z


def iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def seg(number: int, *, date: float | None = None, title: str = "live", tags: str = "") -> str:
    pdt = "" if date is None else f"#EXT-X-PROGRAM-DATE-TIME:{iso(date)}\n"
    return f"{tags}{pdt}#EXTINF:2.000,{title}\nhttps://edge.example/{number}.ts\n"


def playlist(segments: Sequence[str], *, sequence: int = 0, head: str = "", end: str = "") -> str:
    return (
        f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n"
        f"{head}{''.join(segments)}{end}"
    )


def ad_range(start: float, extra: str) -> str:
    return (
        f'#EXT-X-DATERANGE:ID="stitched-ad-1",CLASS="twitch-stitched-ad",'
        f'START-DATE="{iso(start)}",{extra}X-TV-TWITCH-AD-ROLL-TYPE="MIDROLL"\n'
    )


def ads(text: str) -> list[bool]:
    return [s.ad for s in parse_media_playlist(text, URL).segments]


# ---- what RFC 8216 says


def test_numbers_follow_the_media_sequence() -> None:
    parsed = parse_media_playlist(playlist([seg(0), seg(1), seg(2)], sequence=1454), URL)
    assert [s.number for s in parsed.segments] == [1454, 1455, 1456]
    assert parsed.target_duration_s == 6
    assert not parsed.ended


def test_media_sequence_is_zero_when_absent() -> None:
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n" + seg(0)
    assert parse_media_playlist(text, URL).media_sequence == 0


def test_windows_line_ends_and_blank_lines_mean_nothing() -> None:
    text = playlist([seg(0), "\n", seg(1)])
    assert parse_media_playlist(text.replace("\n", "\r\n"), URL) == parse_media_playlist(text, URL)


def test_endlist_ends() -> None:
    assert parse_media_playlist(playlist([seg(0)], end="#EXT-X-ENDLIST\n"), URL).ended


@pytest.mark.parametrize(
    ("reference", "absolute"),
    [
        ("a.ts", "https://edge.example/v1/playlist/a.ts"),
        ("../a.ts?x=1", "https://edge.example/v1/a.ts?x=1"),
        ("/a.ts", "https://edge.example/a.ts"),
        ("//cdn.example/a.ts", "https://cdn.example/a.ts"),
        ("https://cdn.example/a.ts", "https://cdn.example/a.ts"),
        ("ä.ts", "https://edge.example/v1/playlist/%C3%A4.ts"),
    ],
)
def test_addresses_are_resolved_against_the_playlist(reference: str, absolute: str) -> None:
    text = playlist([f"#EXTINF:2,\n{reference}\n"])
    assert parse_media_playlist(text, URL).segments[0].uri == absolute


def test_a_segment_without_date_follows_the_one_before() -> None:
    text = playlist([seg(0), seg(1, date=EIGHT), seg(2), seg(3), seg(4, date=EIGHT + 60)])
    dates = [s.date for s in parse_media_playlist(text, URL).segments]
    assert dates == [None, EIGHT, EIGHT + 2, EIGHT + 4, EIGHT + 60]


@pytest.mark.parametrize(
    "written",
    [
        "2020-01-01T08:00:00Z",
        "2020-01-01T08:00:00.000+00:00",
        "2020-01-01T10:00:00+0200",
        "2020-01-01T08:00:00",
    ],
)
def test_dates_in_their_spellings(written: str) -> None:
    text = playlist([f"#EXT-X-PROGRAM-DATE-TIME:{written}\n#EXTINF:2,\na.ts\n"])
    assert parse_media_playlist(text, URL).segments[0].date == EIGHT


def test_a_discontinuity_belongs_to_the_segment_after_it() -> None:
    text = playlist(
        [seg(0), seg(1, tags="#EXT-X-DISCONTINUITY\n"), seg(2)],
        head="#EXT-X-DISCONTINUITY-SEQUENCE:7\n",
    )
    parsed = parse_media_playlist(text, URL)
    assert parsed.discontinuity_sequence == 7
    assert [s.discontinuity for s in parsed.segments] == [False, True, False]


def test_a_map_applies_until_the_next_one() -> None:
    first = '#EXT-X-MAP:URI="init.mp4"\n'
    second = '#EXT-X-MAP:URI="all.mp4",BYTERANGE="720@16"\n'
    text = playlist([seg(0), seg(1, tags=first), seg(2), seg(3, tags=second)])
    init = InitSection("https://edge.example/v1/playlist/init.mp4")
    assert [s.init for s in parse_media_playlist(text, URL).segments] == [
        None,
        init,
        init,
        InitSection("https://edge.example/v1/playlist/all.mp4", (16, 720)),
    ]


def test_a_byte_range_without_offset_follows_the_one_before() -> None:
    text = playlist(
        [
            "#EXTINF:2,\n#EXT-X-BYTERANGE:1000@500\nall.ts\n",
            "#EXTINF:2,\n#EXT-X-BYTERANGE:300\nall.ts\n",
            "#EXTINF:2,\nother.ts\n",
        ]
    )
    ranges = [s.byte_range for s in parse_media_playlist(text, URL).segments]
    assert ranges == [(500, 1000), (1500, 300), None]


# ---- what Twitch adds


def test_prefetch_lines_are_dropped() -> None:
    text = playlist([seg(0)], end="#EXT-X-TWITCH-PREFETCH:https://edge.example/1.ts\n")
    assert len(parse_media_playlist(text, URL).segments) == 1


def test_an_amazon_title_is_an_ad() -> None:
    assert ads(playlist([seg(0), seg(1, title="Amazon|123"), seg(2)])) == [False, True, False]


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("DURATION=4.0,", [False, True, True, False]),
        ("PLANNED-DURATION=2.0,", [False, True, False, False]),
        (f'END-DATE="{iso(EIGHT + 4)}",DURATION=99,', [False, True, False, False]),
        ("DURATION=0,PLANNED-DURATION=9,", [False, False, False, False]),
        ("DURATION=-1,PLANNED-DURATION=2,", [False, True, False, False]),
        ("", [False, True, True, True]),
    ],
    ids=["duration", "planned", "end date first", "instant", "negative", "open"],
)
def test_a_daterange_marks_what_starts_in_it(extra: str, expected: list[bool]) -> None:
    dated = [seg(n, date=EIGHT + 2 * n) for n in range(4)]
    text = playlist(dated, head=ad_range(EIGHT + 2, extra))
    assert ads(text) == expected
    assert [s.ad for s in TwitchM3U8Parser(URL).parse(text).segments] == expected


def test_a_daterange_behind_its_segments_counts_as_well() -> None:
    dated = [seg(n, date=EIGHT + 2 * n) for n in range(3)]
    text = playlist(dated, end=ad_range(EIGHT + 2, "DURATION=2,"))
    assert ads(text) == [False, True, False]
    kinds = [s.ad_kind for s in parse_media_playlist(text, URL).segments]
    assert kinds == ["", "midroll", ""]


def test_dateranges_of_other_kinds_or_without_a_readable_date_mark_nothing() -> None:
    head = (
        f'#EXT-X-DATERANGE:ID="x",CLASS="twitch-trigger",START-DATE="{iso(EIGHT)}"\n'
        '#EXT-X-DATERANGE:ID="stitched-ad-2",START-DATE="yesterday"\n'
        '#EXT-X-DATERANGE:ID="stitched-ad-3"\n'
    )
    assert ads(playlist([seg(0, date=EIGHT)], head=head)) == [False]


@given(
    st.lists(st.tuples(st.integers(-6, 40), st.one_of(st.none(), st.integers(0, 30))), max_size=6)
)
def test_ads_agree_with_streamlink(ranges: list[tuple[int, int | None]]) -> None:
    head = "".join(
        ad_range(EIGHT + start, "" if length is None else f"DURATION={length},")
        for start, length in ranges
    )
    text = playlist([seg(n, date=EIGHT + 2 * n) for n in range(15)], head=head, sequence=9)
    theirs = TwitchM3U8Parser(URL).parse(text).segments
    ours = parse_media_playlist(text, URL).segments
    assert [(s.num, s.uri, s.duration, s.date and s.date.timestamp(), s.ad) for s in theirs] == [
        (s.number, s.uri, s.duration_s, s.date, s.ad) for s in ours
    ]


# ---- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the playlist is empty"),
        ("\n  \n", "line 1: the playlist is empty"),
        ("<!DOCTYPE html><html>", "line 1: a web page"),
        ('[{"type":"error"}]', "line 1: no #EXTM3U"),
        ("#EXTM3U\n#EXTINF:2,\na.ts\n", "without TARGETDURATION"),
        (playlist(["#EXTINF:two,\na.ts\n"]), "line 5: not readable"),
        (playlist(["#EXTINF:nan,\na.ts\n"]), "line 5: the duration is out of range"),
        (playlist(["#EXTINF:-1,\na.ts\n"]), "line 5: the duration is out of range"),
        (playlist(["a.ts\n"]), "line 5: a segment without EXTINF"),
        (playlist(["#EXTINF:2,\n"]), "ends inside a segment"),
        (playlist([seg(0)], head="#EXT-X-MEDIA-SEQUENCE:-3\n"), "line 5: not a whole number"),
        (playlist([seg(0)], head="#EXT-X-MEDIA-SEQUENCE:1_0\n"), "line 5: not a whole number"),
        (playlist([seg(0)], head=f"#EXT-X-MEDIA-SEQUENCE:{2**64}\n"), "line 5: the number is"),
        (playlist(["#EXT-X-PROGRAM-DATE-TIME:0001-01-01T00:00:00Z\n"]), "line 5: the date is out"),
        (playlist(["#EXTINF:2,\n#EXT-X-BYTERANGE:5\na.ts\n"]), "line 7: a BYTERANGE without"),
        (playlist(["#EXT-X-MAP:BYTERANGE=1@2\n"]), "line 5: EXT-X-MAP without URI"),
        (playlist(["#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n"]), "line 5: a master playlist"),
    ],
)
def test_a_broken_playlist_names_the_line(text: str, message: str) -> None:
    with pytest.raises(PlaylistError) as caught:
        parse_media_playlist(text, URL)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "http://edge.example/a.ts",
        "file:///etc/passwd",
        "ftp://edge.example/a.ts",
        "data:video/mp2t;base64,AAAA",
        "https:///a.ts",
        "https://[/a.ts",
        "https://edge.example/a b.ts",
    ],
)
@pytest.mark.parametrize("line", ["#EXTINF:2,\n{}\n", '#EXT-X-MAP:URI="{}"\n'])
def test_addresses_that_must_not_be_fetched_are_refused(line: str, uri: str) -> None:
    with pytest.raises(PlaylistError, match=r"line [56]: "):
        parse_media_playlist(playlist([line.format(uri)]), URL)


def test_a_plain_http_playlist_may_point_to_plain_http() -> None:
    text = playlist(["#EXTINF:2,\nhttp://edge.example/a.ts\n"])
    assert len(parse_media_playlist(text, "http://edge.example/x.m3u8").segments) == 1


@pytest.mark.parametrize(
    "line",
    [
        "https://edge.example/secret-path/a.ts?sig=secret\n",
        "v1/secret/a.ts?sig=secret\n",
        "http://edge.example/a.ts?sig=secret\n#EXTINF:2,\n",
        '#EXT-X-MAP:BYTERANGE="x",URI="https://edge.example/secret"\n',
    ],
)
def test_no_error_text_holds_an_address(line: str) -> None:
    with pytest.raises(PlaylistError) as caught:
        parse_media_playlist(playlist([line]), URL)
    assert "secret" not in caught.value.one_line


@pytest.mark.parametrize("method", ["AES-128", "SAMPLE-AES", ""])
def test_encrypted_segments_are_a_permanent_refusal(method: str) -> None:
    text = playlist([seg(0)], head=f'#EXT-X-KEY:METHOD={method},URI="key"\n')
    with pytest.raises(EncryptedStream) as caught:
        parse_media_playlist(text, URL)
    assert caught.value.permanent


def test_a_key_of_method_none_is_no_encryption() -> None:
    assert ads(playlist([seg(0)], head="#EXT-X-KEY:METHOD=NONE\n")) == [False]


def test_size_and_count_are_bounded() -> None:
    line = "#EXTINF:2,\na.ts\n"
    assert len(parse_media_playlist(playlist([line] * MAX_SEGMENTS), URL).segments) == MAX_SEGMENTS
    with pytest.raises(PlaylistError, match="more than 20000 segments"):
        parse_media_playlist(playlist([line] * (MAX_SEGMENTS + 1)), URL)
    with pytest.raises(PlaylistError, match="characters"):
        parse_media_playlist("#EXTM3U\n" + "#" * (4 * 1024 * 1024), URL)


_TAGS = st.sampled_from(
    [
        "#EXTM3U",
        "#EXT-X-TARGETDURATION:",
        "#EXT-X-MEDIA-SEQUENCE:",
        "#EXT-X-PROGRAM-DATE-TIME:",
        "#EXT-X-DATERANGE:",
        '#EXT-X-DATERANGE:ID="stitched-ad-1",DURATION=',
        '#EXT-X-DATERANGE:ID="stitched-ad-1",START-DATE=',
        "#EXT-X-BYTERANGE:",
        "#EXT-X-MAP:",
        '#EXT-X-MAP:URI="',
        "#EXT-X-KEY:METHOD=NONE",
        "#EXT-X-STREAM-INF:",
        "#EXTINF:2,",
        "#EXTINF:",
        "https://",
        "",
    ]
)
_LINES = st.lists(st.builds(str.__add__, _TAGS, st.text(max_size=20)), max_size=12)


@given(st.one_of(st.text(), _LINES.map(lambda lines: "\n".join(["#EXTM3U", *lines]))))
def test_any_text_is_a_playlist_or_a_playlist_error(text: str) -> None:
    for parse in (parse_media_playlist, parse_master_playlist):
        try:
            parse(text, URL)
        except PlaylistError as error:
            assert "line " in str(error) or isinstance(error, EncryptedStream)


@given(st.data())
def test_a_cut_off_playlist_lists_only_segments_of_the_whole(data: st.DataObject) -> None:
    text = playlist([seg(n, date=EIGHT + 2 * n) for n in range(4)], sequence=3)
    whole = parse_media_playlist(text, URL).segments
    cut = text[: data.draw(st.integers(0, len(text)))]
    try:
        segments = parse_media_playlist(cut, URL).segments
    except PlaylistError:
        return
    # A cut inside an address cannot be seen here: Content-Length tells the fetcher.
    assert segments[:-1] == whole[: max(0, len(segments) - 1)]


# ---- master playlists

USHER = """#EXTM3U
#EXT-X-TWITCH-INFO:NODE="x"
#EXT-X-STREAM-INF:BANDWIDTH=9146586,RESOLUTION=1920x1080,CODECS="avc1.64002A,mp4a.40.2",\
FRAME-RATE=60.000,STABLE-VARIANT-ID="1080p60",IVS-NAME="1080p60",IVS-VARIANT-SOURCE="source"
https://edge.example/chunked.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=160000,CODECS="mp4a.40.2",STABLE-VARIANT-ID="audio_only"
audio.m3u8
"""


def test_the_variants_of_usher() -> None:
    source, audio = parse_master_playlist(USHER, URL)
    assert (source.name, source.bandwidth_bps, source.frame_rate) == ("1080p60", 9146586, 60.0)
    assert (source.codecs, source.resolution) == ("avc1.64002A,mp4a.40.2", "1920x1080")
    assert (audio.name, audio.resolution) == ("audio_only", "")
    assert audio.uri == "https://edge.example/v1/playlist/audio.m3u8"
    assert not source.separate_audio


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ('BANDWIDTH=1,NAME="HD"', "HD"),
        ('BANDWIDTH=1,VIDEO="chunked"', "1080p60 (source)"),
        ("BANDWIDTH=1,RESOLUTION=1280x720,FRAME-RATE=59.94", "720p60"),
        ("BANDWIDTH=1,RESOLUTION=1280x720,FRAME-RATE=30", "720p"),
        ("BANDWIDTH=1,RESOLUTION=1280x720", "720p"),
        ("BANDWIDTH=128000", "128k"),
    ],
)
def test_variants_get_the_best_name_there_is(attributes: str, name: str) -> None:
    text = (
        "#EXTM3U\n"
        '#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="chunked",NAME="1080p60 (source)"\n'
        f"#EXT-X-STREAM-INF:{attributes}\na.m3u8\n"
    )
    assert parse_master_playlist(text, URL)[0].name == name


@pytest.mark.parametrize(("uri", "separate"), [(',URI="a.m3u8"', True), ("", False)])
def test_audio_in_a_playlist_of_its_own_is_told(uri: str, separate: bool) -> None:
    text = (
        f'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en"{uri}\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"\nv.m3u8\n'
    )
    assert parse_master_playlist(text, URL)[0].separate_audio is separate


def test_a_master_playlist_is_told_from_a_media_playlist() -> None:
    assert is_master(USHER)
    assert not is_master(playlist([seg(0)]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (playlist([seg(0)]), "ends without a variant"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=x\na.m3u8\n", "line 3: not a whole number"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nfile:///a\n", "line 3: the address is neither"),
        ("<html>", "a web page"),
    ],
)
def test_a_broken_master_playlist_names_the_line(text: str, message: str) -> None:
    with pytest.raises(PlaylistError) as caught:
        parse_master_playlist(text, URL)
    assert message in str(caught.value)
