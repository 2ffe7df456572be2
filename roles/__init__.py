"""What a worker process can be: each module builds the Temporal workers of one role.

Each loads what it needs itself: a recorder that was killed has to be back before the playlist has
moved on, and an idle process should be small.
"""
