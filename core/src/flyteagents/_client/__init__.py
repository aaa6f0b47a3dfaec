"""The client that plays Flyte: the calls, one task's way through its attempts, a server's process.

The command line uses it to run a task, the test kit to attack a server. It knows nothing of either.
"""
