"""The exceptions a user is meant to read."""

from .safe import printable


class UserError(Exception):
    """Bad input or a missing file; its message is one line that says what is wrong and what to do."""

    def __str__(self) -> str:
        return printable(super().__str__())  # it may quote a file name or another error


class Unheard(UserError):
    """Whoever read what is printed has gone, as `| head` does: the command ends as cleanly as with an error."""
