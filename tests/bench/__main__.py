"""Our server beside flytekit's connector service: `make bench`, `make bench PARTS="slow memory"`.

Prints medians over the rounds, and writes them to build/bench.md, with all figures in
build/bench.json. `make bench PARTS=--page` puts the last run into docs/benchmark.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import sysconfig
import time
from importlib.metadata import version
from os import cpu_count, getloadavg
from typing import Any

from tests.bench import bigquery, databricks, growth, memory, nothing, plugins, slow, snowflake
from tests.bench.page import PAGE, put
from tests.bench.processes import FLYTEKIT, ROOT

PARTS = {
    "nothing": nothing.measure,
    "slow": slow.measure,
    "bigquery": bigquery.measure,
    "snowflake": snowflake.measure,
    "databricks": databricks.measure,
    "plugins": plugins.measure,
    "memory": memory.measure,
    "growth": growth.measure,
}
BUILD = ROOT / "build"
SHARED = ("grpcio", "protobuf", "flyteidl")


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("part", nargs="*", help=f"which of {', '.join(PARTS)}; all if none")
    parser.add_argument("--page", action="store_true", help="put the last run into the page")
    given = parser.parse_args()
    if given.page:
        put((BUILD / "bench.md").read_text(), ROOT / "docs" / "benchmark.md")
        return
    wanted = given.part or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if not FLYTEKIT.exists():
        sys.exit("flytekit is not installed here; `make bench` does it")
    print("The client, the collector and the vendor share the cores with the servers.")
    results: dict[str, Any] = {"machine": _machine()}
    print("  ".join(f"{name} {value}" for name, value in results["machine"].items()))
    PAGE.machine(results["machine"])
    started = time.monotonic()
    for name in wanted:
        results[name] = PARTS[name]()
    BUILD.mkdir(exist_ok=True)
    (BUILD / "bench.json").write_text(json.dumps(results, indent=1))
    (BUILD / "bench.md").write_text(PAGE.text())
    print(f"\n{time.monotonic() - started:.0f} s; all figures are in build/bench.json")


def _machine() -> dict[str, str]:
    """What the figures depend on; ours first where the two differ."""
    code = (
        "import json, platform; from importlib.metadata import version as v; "
        f"print(json.dumps({{'python': platform.python_version(), 'flytekit': v('flytekit'), "
        f"**{{n: v(n) for n in {SHARED}}}}}))"
    )
    theirs = json.loads(subprocess.check_output([FLYTEKIT, "-c", code]))
    mine = {"python": platform.python_version(), **{name: version(name) for name in SHARED}}
    return {
        "cores": str(cpu_count()),
        "other work's load average": f"{getloadavg()[0]:.1f}",
        "flyteagents": version("flyteagents"),
        "flytekit": theirs.pop("flytekit"),
        **{n: v if theirs[n] == v else f"{v} and {theirs[n]}" for n, v in mine.items()},
        "its build": _build(),
    }


def _build() -> str:
    """Whose this Python is: one that was built without optimisation takes up to twice as long."""
    if sys.base_prefix == "/usr":
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    options = str(sysconfig.get_config_var("CONFIG_ARGS"))
    return "optimised" if "--enable-optimizations" in options else "not optimised"


if __name__ == "__main__":
    main()
