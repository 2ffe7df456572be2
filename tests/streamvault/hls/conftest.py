"""Property tests here check contents, never time: the machine that runs them may be busy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("streamvault", deadline=None)
settings.load_profile("streamvault")
