"""A Twitch of our own: GQL, usher, playlists, segments, Helix, id and EventSub, in one process.

Run by hand with `python -m tests.fake_twitch --state-dir DIR --live ada --live bob`.
"""
