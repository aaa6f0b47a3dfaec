"""What our processes end with, after sysexits.h; docs/cli.md has the same table for users.

Whoever starts a server reads them, so they are below the command line.
"""

FAILED = 1
"""A task's end, an agent's check, or a job that was not seen to stop."""
RETRYABLE = 2
"""The last attempt failed, and a further one might not."""
USAGE = 64
"""EX_USAGE. click's own 2 is taken."""
BAD_DATA = 65
"""EX_DATAERR: a file or a `resource_meta` that cannot be read."""
UNAVAILABLE = 69
"""EX_UNAVAILABLE: an address cannot be had now, or nobody answers there."""
UNCLEAN = 70
"""EX_SOFTWARE: all went well, and then the server did not end cleanly."""
UNWRITTEN = 74
"""EX_IOERR: what was to be printed could not be written."""
CONFIG_ERROR = 78
"""EX_CONFIG: starting again without a change is of no use."""
INTERRUPTED = 130
"""What a shell says of a command that SIGINT ended."""
