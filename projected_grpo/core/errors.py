"""The kind of error that is the user's to mend: its message names the file, the key or row, and what to do."""


class InputError(ValueError):
    """Input that cannot be used. A stage prints the message without a traceback and leaves its outputs untouched."""


class ProblemError(InputError):
    """Problems that cannot be made; the message names the settings' keys, or the file, line and key."""
