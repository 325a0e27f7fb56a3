"""Errors a user can act on: what was asked, what was found, what to write instead.

Every mistake that a user can make ends in one of these two; anything else that escapes is our own mistake.
The command line prints the three parts and exits with `exit_code`; `--debug` shows the traceback.
"""

from __future__ import annotations


class AmalganError(Exception):
    """Something went wrong that the reader of the message can mend.

    Arguments:
        asked: what was asked for, in the user's words.
        found: what was found instead, with shapes, ranges or names.
        instead: what to write or do instead.
    """

    exit_code = 1

    def __init__(self, asked: str, found: str, instead: str) -> None:
        super().__init__(asked, found, instead)
        self.asked, self.found, self.instead = asked, found, instead

    def __str__(self) -> str:
        return f"asked:   {self.asked}\nfound:   {self.found}\ninstead: {self.instead}"


class UsageError(AmalganError):
    """The request itself is off: a name, a flag, a range, a path."""

    exit_code = 2
