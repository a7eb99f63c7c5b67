"""The one exception a user is meant to read."""


class UserError(Exception):
    """Bad input or a missing file; its message is one line that says what is wrong and what to do."""
