"""What runs in a job's own process, and the data directory by which servers and jobs meet.

A package of its own, so that a job does not load the server's libraries: it starts in half the
time and with half the memory. Nothing here imports `flyteagents`.
"""
