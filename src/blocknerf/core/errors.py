"""The one kind of error that a user can mend."""


class UserError(ValueError):
    """Says what arrived, what is allowed and what to do. The command line prints it and exits with 2."""
