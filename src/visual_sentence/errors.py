"""The one exception that means: the user can mend this.

Every place that meets bad input raises `UserError` with a message of one line that says what was found, why it
matters and what to do. The command line prints that line and ends with status 2; Python callers see an
ordinary `ValueError`.
"""


class UserError(ValueError):
    """Bad input, described in one line for the person who gave it.

    Args:
        message: What was found, why it matters, what to do. Line breaks are folded into spaces.
    """

    def __init__(self, message: object):
        super().__init__(" ".join(str(message).split()))


class UnreachableError(UserError):
    """A model that did not load.

    Args:
        reference: What the user, or a default, named.
        message: What was tried, what the library said, what to do.
    """

    def __init__(self, reference: str, message: object):
        super().__init__(message)
        self.reference = reference

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # an exception is rebuilt from its message alone, and processes hand errors to each other
        return type(self), (self.reference, str(self))
