"""Errors that a user can act on, and the exit codes of the command line.

An error says *what* is wrong, *where* (file, line, sample id) and *what to do*. Users' mistakes are
`JvlmError`s and are printed in one line; a traceback means a fault of our own.
"""

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_BAD_DATA = 3
EXIT_ITEM_ERRORS = 4
EXIT_STOPPED = 5


class JvlmError(Exception):
    """Something failed for a reason the user can be told.

    Args:
        what: what is wrong, in one sentence without a full stop.
        where: file, line, field or sample id, when there is one.
        fix: what the user can do about it.
    """

    exit_code = EXIT_FAILURE

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where is not None else ""
        remedy = f" ({self.fix})" if self.fix else ""
        return f"{place}{self.what}{remedy}"


class UsageError(JvlmError):
    """The command, an option or a config file is wrong."""

    exit_code = EXIT_USAGE


class DataError(JvlmError):
    """Input data is missing, unreadable or inconsistent."""

    exit_code = EXIT_BAD_DATA


class Stopped(JvlmError):
    """A signal or a time limit ended the work; all of it is saved, and the same command goes on from there."""

    exit_code = EXIT_STOPPED
