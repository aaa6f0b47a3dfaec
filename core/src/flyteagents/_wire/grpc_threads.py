"""The priority of the threads in which gRPC reads and writes its connections.

What arrives wakes one of them, and Linux lets a thread that wakes interrupt the one at work: the
event loop, in the midst of a call, eight times in each. With a lower priority they wait until the
loop does, and then find more to do at once. Beside a thread that never sleeps they get a thirtieth
of a core, and beside the loop all of it while that waits.

`NICE = 0` leaves them as they are.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

NICE = 15
"""How much nicer than the process they are. At 10 they still interrupt; at 19 a core that other
work keeps busy answers a third as many calls."""
# The threads that read and write, and the one that starts more of them, which inherit it.
_NAMES = ("event_engine", "lifeguard")
_THREADS = Path("/proc/self/task")


def give_way() -> None:
    """Lower the priority of gRPC's threads, below that of the caller's. Each names itself when it
    first runs, and is not known before: so do it again a moment after the start, which changes
    nothing of those that were known. Does nothing where threads have no priority of their own, as
    on macOS."""
    if not _THREADS.is_dir():
        return
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    for thread in _THREADS.iterdir():
        # One may end meanwhile, and a sandbox may forbid it.
        with suppress(OSError):
            if (thread / "comm").read_text().startswith(_NAMES):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), usual + NICE)
