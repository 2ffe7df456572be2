"""The texts of usher v2 and of the media playlists, as streamlink and public samples show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.fake_twitch.media import FRAME_RATE, Pools
from tests.fake_twitch.streams import AdBreak, Options, Slot, Variant
from tests.fake_twitch.world import Channel, Session

AD_CLASS = "twitch-stitched-ad"


@dataclass(frozen=True)
class Line:
    """A slot as a playlist lists it; `slot` is older than its place when the origin loops."""

    number: int
    slot: Slot


def master(variants: Sequence[Variant], pools: Pools, urls: Sequence[str]) -> str:
    lines = ["#EXTM3U"]
    for variant, url in zip(variants, urls, strict=True):
        lines += [_stream_inf(variant, pools), url]
    return "\n".join(lines) + "\n"


def media(
    session: Session, lines: Sequence[Line], options: Options, base: str, variant: str
) -> str:
    """The media playlist of one session; `base` is where segments are, with a trailing slash."""
    text = _Media(session, options, base, variant)
    text.head(lines)
    for line in lines:
        text.line(line)
    return "\n".join(text.out) + "\n"


def prefetch(session: Session, base: str, variant: str, after: Slot, options: Options) -> str:
    """The two segments that low-latency players may fetch before they are listed."""
    ahead = range(after.number + 1, after.number + 1 + options.prefetch)
    return "".join(
        f"#EXT-X-TWITCH-PREFETCH:{base}{_file(session, variant, after, number)}\n"
        for number in ahead
    )


def iso(at: float) -> str:
    """RFC 3339 UTC with milliseconds."""
    return datetime.fromtimestamp(round(at, 3), UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def window(channel: Channel, options: Options, first: int, end: int) -> list[Slot]:
    """The slots of `first` to `end` (exclusive) that a playlist lists: the newest `window_s`."""
    count = max(1, round(options.window_s / options.segment_s))
    return channel.slots[max(first, end - count) : end]


class _Media:
    def __init__(self, session: Session, options: Options, base: str, variant: str) -> None:
        self.out: list[str] = []
        self._session = session
        self._options = options
        self._base = base
        self._variant = variant
        self._init = ""
        self._was_ad: bool | None = None

    def head(self, lines: Sequence[Line]) -> None:
        slots = [line.slot for line in lines]
        target = self._options.target_s or self._options.segment_s + 1
        self.out += ["#EXTM3U", f"#EXT-X-VERSION:{7 if _is_fmp4(slots, self._variant) else 3}"]
        self.out.append(f"#EXT-X-TARGETDURATION:{target}")
        if lines:
            first = lines[0]
            self.out.append(f"#EXT-X-MEDIA-SEQUENCE:{self._session.sequence(first.number)}")
            self._twitch_head(first, slots)
        breaks = dict.fromkeys(ad for slot in slots if (ad := self._session.ad(slot)))
        self.out += [self._daterange(ad) for ad in breaks if ad.mark != "title"]

    def line(self, line: Line) -> None:
        slot, ad = line.slot, self._session.ad(line.slot)
        is_ad = ad is not None
        turned = self._was_ad is not None and self._was_ad != is_ad
        if slot.discontinuity or turned:
            self.out.append("#EXT-X-DISCONTINUITY")
            if turned and not is_ad:
                self.out.append(f"#EXT-X-TWITCH-LIVE-SEQUENCE:{line.number}")
        self._was_ad = is_ad
        self._map(slot, is_ad)
        if self._options.pdt:
            self.out.append(f"#EXT-X-PROGRAM-DATE-TIME:{iso(slot.at + self._session.jitter_s)}")
        title = "Amazon|1234567890" if ad and ad.mark != "daterange" else "live"
        self.out.append(f"#EXTINF:{slot.duration_s:.3f},{title}")
        self.out.append(self._base + _file(self._session, self._variant, slot, slot.number))

    def _twitch_head(self, first: Line, slots: Sequence[Slot]) -> None:
        elapsed = (first.number - self._session.first) * self._options.segment_s
        total = elapsed + sum(slot.duration_s for slot in slots)
        if not self._session.ad(first.slot):
            self.out.append(f"#EXT-X-TWITCH-LIVE-SEQUENCE:{first.number}")
        self.out.append(f"#EXT-X-TWITCH-ELAPSED-SECS:{elapsed:.3f}")
        self.out.append(f"#EXT-X-TWITCH-TOTAL-SECS:{total:.3f}")

    def _daterange(self, ad: AdBreak) -> str:
        fields = {
            "ID": ad.id,
            "CLASS": AD_CLASS,
            "START-DATE": iso(ad.at + self._session.jitter_s),
            "DURATION": f"{ad.duration_s:.3f}",
            "X-TV-TWITCH-AD-COMMERCIAL-ID": ad.id.removeprefix("stitched-ad-"),
            "X-TV-TWITCH-AD-ROLL-TYPE": "PREROLL" if ad == self._session.preroll else "MIDROLL",
            "X-TV-TWITCH-AD-POD-FILLED-DURATION": f"{ad.duration_s:.3f}",
        }
        quoted = (f"{k}={v}" if k == "DURATION" else f'{k}="{v}"' for k, v in fields.items())
        return "#EXT-X-DATERANGE:" + ",".join(quoted)

    def _map(self, slot: Slot, is_ad: bool) -> None:
        if not _is_fmp4([slot], self._variant):
            return
        init = f"{'ad' if is_ad else find_variant(slot, self._variant).profile}.init.mp4"
        if init != self._init:
            self._init = init
            self.out.append(
                f'#EXT-X-MAP:URI="{self._base}{self._session.id}/{self._variant}/{init}"'
            )


def find_variant(slot: Slot, name: str) -> Variant:
    """The slot's variant of that name; raises KeyError when it had none."""
    for variant in slot.variants:
        if variant.name == name:
            return variant
    raise KeyError(name)


def _file(session: Session, variant: str, slot: Slot, number: int) -> str:
    suffix = "mp4" if _is_fmp4([slot], variant) else "ts"
    return f"{session.id}/{variant}/{number}.{suffix}"


def _is_fmp4(slots: Sequence[Slot], name: str) -> bool:
    return any(
        variant.profile.endswith(("fmp4", "hevc", "av1"))
        for slot in slots
        for variant in slot.variants
        if variant.name == name
    )


def _stream_inf(variant: Variant, pools: Pools) -> str:
    pool = pools[variant.profile]
    fields = [f"BANDWIDTH={variant.bandwidth_bps or pool.bandwidth_bps}"]
    if not pool.profile.audio_only:
        size = variant.resolution or f"{pool.profile.width}x{pool.profile.height}"
        fields.append(f"RESOLUTION={size}")
    fields.append(f'CODECS="{pool.codecs}"')
    if not pool.profile.audio_only:
        fields.append(f"FRAME-RATE={variant.frame_rate or FRAME_RATE:.3f}")
    fields += [f'STABLE-VARIANT-ID="{variant.name}"', f'IVS-NAME="{variant.name}"']
    fields.append(f'IVS-VARIANT-SOURCE="{"source" if variant.source else "transcode"}"')
    if variant.group:
        fields.append(f'IVS-GROUPS="{variant.group}"')
    return "#EXT-X-STREAM-INF:" + ",".join(fields)
