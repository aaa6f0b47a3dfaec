"""Serves the made-up job service by itself, for demos and benchmarks."""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from flyteagents.testing.jobs import JobService


async def serve(options: argparse.Namespace) -> None:
    async with JobService(
        token=options.token,
        cancel_seconds=options.cancel_seconds,
        port=options.port,
        keep=options.keep,
    ) as service:
        print(f"job service on {service.url}", flush=True)  # noqa: T201 # a program
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="flyteagents.testing.serve_jobs", description=__doc__)
    parser.add_argument("--port", type=int, default=9000, help="0 takes a free one")
    parser.add_argument("--token", default="", help="the bearer token that is asked for")
    parser.add_argument("--cancel-seconds", type=float, default=0.0, help="what a cancel takes")
    parser.add_argument("--keep", type=int, default=1000, help="how many requests to remember")
    options = parser.parse_args()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(options))
    except OSError as error:
        parser.exit(69, f"cannot listen on port {options.port}: {error}; name another by --port\n")


if __name__ == "__main__":
    main()
