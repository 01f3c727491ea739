"""The one exception type that reaches the user as a single line instead of a traceback."""

from __future__ import annotations


class MacrecError(Exception):
    """A mistake in the input, the parameters or an artifact.

    The message is one line that names the value, the rule it breaks and the remedy.
    Stages print it and exit with `exit_code`; anything else is a bug and keeps its traceback.
    """

    exit_code = 1


class FullDiskError(MacrecError):
    """Something cannot be written for lack of space; its cause is the system's error."""


class LostContactError(MacrecError):
    """Another of the processes that share a work is gone; its own end says why."""

    exit_code = 3
