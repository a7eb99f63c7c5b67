"""The one exception a user is meant to read."""


class UserError(Exception):
    """Bad input or a missing file; its message is one line that says what is wrong and what to do."""

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())  # it may quote a file name or another error
