"""What the stores' own packages make of a store's answers: run with the Python of
`requirements/databricks.txt`, which has s3fs, gcsfs and adlfs.

Its arguments are the prefixes to look below, and a line of JSON for each is what becomes of it.
"""

from __future__ import annotations

import json
import sys

from flyteagents import AgentError
from flyteagents._kernel.stores import read_file


def main(prefixes: list[str]) -> None:
    for prefix in prefixes:
        try:
            raw = read_file(prefix, "error.pb")
        except AgentError as error:
            told = {"kind": type(error).__name__, "text": error.message}
        else:
            told = {"kind": "read", "text": "nothing" if raw is None else raw.decode()}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
