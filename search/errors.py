"""The exceptions a user is meant to read, in characters that a terminal can show."""

from typing import TypeVar

T = TypeVar("T")


def printable(text: object, kept: str = "") -> str:
    """`text` without control characters, one for one: a blank for white space, U+FFFD for others.

    In text that is to be copied, a command, line ends are `kept` ("\\n"), and nothing else passes for a blank.
    """
    blank = "\ufffd" if kept else " "
    return "".join(c if c.isprintable() or c in kept else blank if c.isspace() else "\ufffd" for c in str(text))


def present(value: T | None) -> T:
    """A value that is never None where this is called, as the state of its owner has been looked at. Else TypeError."""
    if value is None:
        raise TypeError("a value is missing (None) that must be there")
    return value


class UserError(Exception):
    """Bad input or a missing file; its message is one line that says what is wrong and what to do."""

    def __str__(self) -> str:
        return printable(super().__str__())  # it may quote a file name or another error


class Unheard(UserError):
    """Whoever read what is printed has gone, as `| head` does: the command ends as cleanly as with an error."""


def breakage(error: Exception) -> str:
    """What broke, in one line: the error's type and the first 300 characters of what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
