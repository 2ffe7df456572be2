from __future__ import annotations

from pathlib import Path

import pytest

from streamvault.hls.pending import PENDING_NAME, read_pending, write_pending
from streamvault.hls.playlist import InitSection, Segment

SEGMENTS = (
    Segment(7, "https://x.example/7.ts?sig=1", 2.0, 1_700_000_000.5, True),
    Segment(8, "https://x.example/8.ts", 2.0, None, ad=True, ad_kind="midroll"),
    Segment(9, "https://x.example/a.mp4", 2.0, init=InitSection("https://x.example/i.mp4")),
    Segment(
        *(10, "https://x.example/a.mp4", 2.0, None, False, False),
        InitSection("https://x.example/a.mp4", (0, 700)),
        (700, 9_000),
    ),
)


def test_segments_come_back_as_they_were(tmp_path: Path) -> None:
    write_pending(tmp_path, SEGMENTS)
    assert read_pending(tmp_path) == SEGMENTS
    write_pending(tmp_path, SEGMENTS[2:])
    assert read_pending(tmp_path) == SEGMENTS[2:]
    write_pending(tmp_path, ())
    assert read_pending(tmp_path) == ()


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    write_pending(tmp_path, SEGMENTS)
    assert (tmp_path / PENDING_NAME).stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [PENDING_NAME]


@pytest.mark.parametrize(
    "content", [b"", b"[{]", b"{}", b"[1]", b'[{"number":1}]', b"null", b"\xff"]
)
def test_a_damaged_list_counts_as_empty(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PENDING_NAME).write_bytes(content)
    assert read_pending(tmp_path) == ()


def test_no_list_is_an_empty_list(tmp_path: Path) -> None:
    assert read_pending(tmp_path) == ()
