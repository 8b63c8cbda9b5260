"""The one exception for what a user can put right."""


class UserError(Exception):
    """A fault in what the user gave: its message is one line naming the value and what was expected.

    The command line prints the message without a traceback and exits with status 1; a run in progress is
    marked FAILED with the message as a tag.
    """
