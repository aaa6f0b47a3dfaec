"""Whether anybody still reads what we print: `flyteagents run ... | head -2` leaves a pipe's end.

Nothing says so to a process that prints nothing, so it has to be looked for; and whoever prints
into such a pipe gets an error in the midst of a cancel.
"""

from __future__ import annotations

import os
import select
import stat

_OUT, _ERR = 1, 2


class Readers:
    """The readers of standard output and standard error."""

    def __init__(self) -> None:
        self._piped = [number for number in (_OUT, _ERR) if _is_pipe(number)]
        self.gone = False
        """Nobody reads standard output any more."""

    def look(self) -> bool:
        """Whether the reader of standard output has gone. What is printed to nobody is dropped
        from then on."""
        for number in list(self._piped):
            if _closed(number):
                self._piped.remove(number)
                self.gone = self.gone or number == _OUT
                # The descriptor, not `sys.stdout`: who holds the old stream prints to nowhere too.
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
        return self.gone


def _is_pipe(number: int) -> bool:
    try:
        mode = os.fstat(number).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _closed(number: int) -> bool:
    poll = select.poll()
    poll.register(number, 0)  # POLLERR and POLLHUP are told without being asked for
    return bool(poll.poll(0))
