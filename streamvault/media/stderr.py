"""What ffmpeg says on standard error, kept small: distinct lines with counts, and the tail."""

from __future__ import annotations

import re
from collections import Counter, deque

TAIL_BYTES = 65536
MAX_DISTINCT = 200

_COUNTED = {
    # ffmpeg 5 says "monotonous", later ones "monotonic".
    "non_monotonic": re.compile(r"non-monoton(?:ous|ic) dts", re.IGNORECASE),
    "corrupt": re.compile(r"packet corrupt", re.IGNORECASE),
    "discontinuity": re.compile(r"timestamp discontinuity", re.IGNORECASE),
    "out_of_range": re.compile(r"out of range", re.IGNORECASE),
}
_LEVEL = re.compile(r"\[(fatal|error|warning|panic)\] ")
_VARIES = re.compile(r"0x[0-9a-f]+|-?\d+(?:\.\d+)?")
_PACKETS_READ = re.compile(r"Input stream #0:\d+ \((video|audio)\): (\d+) packets read")


class Digest:
    """Fed line by line; holds at most some 100 KB however much ffmpeg complains."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._repeats: Counter[str] = Counter()
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self.packets_read: dict[str, int] = {}
        """Of the first input, by `video` and `audio`; the first stream of each kind."""

    def feed(self, line: str) -> None:
        self._remember(line)
        if match := _PACKETS_READ.search(line):
            self.packets_read.setdefault(match[1], int(match[2]))
        elif match := _LEVEL.search(line):
            self._complain(line[: match.start()] + line[match.end() :])

    def count(self, kind: str) -> int:
        """How many lines were of one of the counted kinds, such as `non_monotonic`."""
        return self._counts[kind]

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(
            f"{line} (x{self._repeats[key]})" if self._repeats[key] > 1 else line
            for key, line in self._first.items()
        )

    @property
    def tail(self) -> str:
        return "\n".join(self._tail)

    def _complain(self, line: str) -> None:
        for kind, pattern in _COUNTED.items():
            if pattern.search(line):
                self._counts[kind] += 1
        key = _VARIES.sub("#", line)
        if key in self._first or len(self._first) < MAX_DISTINCT:
            self._first.setdefault(key, line[:500])
            self._repeats[key] += 1

    def _remember(self, line: str) -> None:
        self._tail.append(line)
        self._tail_size += len(line) + 1
        while self._tail_size > TAIL_BYTES and len(self._tail) > 1:
            self._tail_size -= len(self._tail.popleft()) + 1
