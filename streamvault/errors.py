"""Every error StreamVault raises on purpose.

    StreamVaultError
    ├── SettingsError            a wrong environment value; names the variable
    ├── InvalidInput             a request that can never work as given
    ├── NotFound                 no such recording, streamer, pipeline
    ├── Conflict                 right request, wrong moment
    │   └── StoppedByPerson      only a person starts again what a person stopped
    ├── DependencyUnavailable    database or Temporal cannot be reached
    ├── SourceError              what is wrong with the place we record from
    │   ├── UnknownSource        no plugin and no playlist behind this URL
    │   ├── StreamOffline        the source says that nothing is live
    │   ├── AccessRefused        subscription, region or token
    │   ├── SourceUnavailable    network, 5xx, time-out: worth another try
    │   │   ├── ProxyUnavailable the proxy does not answer, or refuses to
    │   │   └── FetchFailed      one HTTP request of the recorder; carries the status
    │   └── PlaylistError        not an HLS playlist, or a broken one; names the line
    │       └── EncryptedStream  segments that need a key or a DRM system
    ├── SecretUnreadable         a stored secret that the key does not open
    ├── TwitchError              what Twitch's own API says, or does not say
    │   ├── TwitchNotConfigured  no client id, or no secret, or nobody signed in
    │   ├── TwitchRefused        a 4xx answer; carries the status
    │   │   └── TokenInvalid     401 also with a fresh token, or a refresh that is refused
    │   └── TwitchUnavailable    network, 5xx, time-out, a body that makes no sense
    │       ├── CircuitOpen      not asked: the last calls failed; carries when to ask again
    │       └── RateLimited      not asked, or 429: no points left until then
    ├── CaptureError             what is wrong with the place we record to
    │   ├── CaptureLocked        another process writes this recording
    │   │   ├── CaptureBusy      it was told to leave it to us
    │   │   └── CaptureReplaced  we were told to leave it to another one
    │   ├── StorageFull          no room left on the recordings' file system
    │   ├── StorageUnwritable    folder missing, read-only, no permission, I/O error
    │   └── JournalDamaged       more of the journal is bad than a torn tail can be
    └── MediaError
        ├── ToolMissing          no usable ffmpeg
        ├── RemuxFailed          ffmpeg ended badly, hung or was killed
        └── VerificationFailed   the final file is not what the parts hold

The message is one line that names the cause; `hint` says what to do about it. Neither ever
holds a token, a signed URL or a credential.
"""

from __future__ import annotations

from typing import ClassVar


class StreamVaultError(Exception):
    """Base of all; `permanent` means that trying again unchanged cannot help."""

    permanent: ClassVar[bool] = True
    title: ClassVar[str] = "Something went wrong"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def one_line(self) -> str:
        """Message and hint as one line for a terminal or a Temporal failure."""
        text = " ".join(str(self).split())
        return f"{text}: {self.hint}" if self.hint else text


class SettingsError(StreamVaultError):
    title = "A setting is wrong"


class InvalidInput(StreamVaultError):
    title = "The request is not valid"


class NotFound(StreamVaultError):
    title = "Not found"


class Conflict(StreamVaultError):
    title = "Not possible right now"


class StoppedByPerson(Conflict):
    title = "A person stopped this stream"


class DependencyUnavailable(StreamVaultError):
    permanent = False
    title = "A part of StreamVault cannot be reached"


class SourceError(StreamVaultError):
    title = "The stream cannot be read"


class UnknownSource(SourceError):
    title = "No recorder for this address"


class StreamOffline(SourceError):
    title = "The stream is offline"


class AccessRefused(SourceError):
    title = "The stream refuses access"


class SourceUnavailable(SourceError):
    permanent = False
    title = "The stream's service cannot be reached"


class ProxyUnavailable(SourceUnavailable):
    """Nothing is known of the source: the way to it is what failed."""


class FetchFailed(SourceUnavailable):
    """`status` is 0 when no answer came; `by_proxy` when the proxy was what failed; `partial` when
    some of a body came."""

    def __init__(
        self, message: str, *, status: int = 0, by_proxy: bool = False, partial: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.by_proxy = by_proxy
        self.partial = partial


class PlaylistError(SourceError):
    permanent = False
    title = "The playlist is broken"


class EncryptedStream(PlaylistError):
    permanent = True
    title = "The stream is encrypted"


class SecretUnreadable(StreamVaultError):
    title = "A stored secret cannot be read"


class TwitchError(StreamVaultError):
    title = "Twitch does not do what was asked"


class TwitchNotConfigured(TwitchError):
    title = "Twitch is not set up"


class TwitchRefused(TwitchError):
    """`status` is that of the answer."""

    title = "Twitch refuses"

    def __init__(self, message: str, *, status: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class TokenInvalid(TwitchRefused):
    title = "The Twitch token is not valid"


class TwitchUnavailable(TwitchError):
    """`retry_after_s` says when asking again makes sense; 0 when nobody knows."""

    permanent = False
    title = "Twitch cannot be reached"

    def __init__(self, message: str, *, retry_after_s: float = 0.0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class CircuitOpen(TwitchUnavailable):
    title = "Twitch is not asked for a while"


class RateLimited(TwitchUnavailable):
    title = "Twitch allows no more calls for a while"


class CaptureError(StreamVaultError):
    permanent = False
    title = "The recording cannot be written"


class CaptureLocked(CaptureError):
    title = "Another process writes this recording"


class CaptureBusy(CaptureLocked):
    """Its holder does not know yet that it is replaced."""


class CaptureReplaced(CaptureLocked):
    """What was written is in order; a newer attempt goes on."""


class StorageFull(CaptureError):
    title = "The disk is full"


class StorageUnwritable(CaptureError):
    title = "The recordings folder cannot be written"


class JournalDamaged(CaptureError):
    permanent = True
    title = "The recording's journal is damaged"


class MediaError(StreamVaultError):
    permanent = False
    title = "The recording could not be processed"


class ToolMissing(MediaError):
    permanent = True
    title = "No usable ffmpeg"


class RemuxFailed(MediaError):
    title = "The remux failed"


class VerificationFailed(MediaError):
    title = "The final file differs from what was recorded"


def error_named(name: str) -> type[StreamVaultError]:
    """The class of this tree with that name; StreamVaultError itself for an unknown name."""
    waiting: list[type[StreamVaultError]] = [StreamVaultError]
    while waiting:
        candidate = waiting.pop()
        if candidate.__name__ == name:
            return candidate
        waiting.extend(candidate.__subclasses__())
    return StreamVaultError
