"""Installs the service and the chosen plugins into a folder, in the build stage of the image.

What requirements/test.txt pins is installed in the version that the tests ran with, and checked
against its hash. Other packages are taken as the index has them. It is a program of its own since
pip checks hashes for all packages or for none, and ours are built on the spot.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements" / "test.txt"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "-q")
PLUGIN = re.compile(r"(?P<name>[a-z0-9][a-z0-9_-]*)(?P<extras>\[[a-z0-9,_-]+\])?")
LAUNCHER = """\
#!/usr/bin/python3
import sys
from flyteagents._cli import main
sys.exit(main())
"""


def main() -> None:
    """Read the build arguments, which Docker hands over as variables, and install."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--into", type=Path, required=True)
    options.add_argument("--launcher", type=Path, required=True)
    given = options.parse_args()

    plugins = os.environ.get("PLUGINS", "").replace(",", " ").split()
    packages = os.environ.get("PACKAGES", "").split()
    with tempfile.TemporaryDirectory() as wheels:
        if os.environ.get("SOURCE", "checkout") == "checkout":
            ours = built(plugins, Path(wheels))
        else:
            ours = published(plugins, os.environ.get("RELEASE", ""))
        install([*ours, *packages], given.into)

    shrink(given.into)
    given.launcher.parent.mkdir(parents=True)
    given.launcher.write_text(LAUNCHER)
    given.launcher.chmod(0o755)


def built(plugins: list[str], wheels: Path) -> list[str]:
    """Build wheels of this checkout. What pip is to install."""
    sources = [ROOT / "core"]
    extras = [""]
    for text in plugins:
        name, extra = split(text)
        source = ROOT / "plugins" / name
        if not source.is_dir():
            known = ", ".join(sorted(path.name for path in (ROOT / "plugins").iterdir()))
            sys.exit(f"PLUGINS: there is no plugin {name!r} in this checkout, which has: {known}")
        sources.append(source)
        extras.append(extra)

    found = []
    for source, extra in zip(sources, extras, strict=True):
        folder = wheels / source.name
        pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(source))
        [wheel] = folder.iterdir()
        found.append(f"{wheel.name.split('-')[0].replace('_', '-')}{extra} @ {wheel.as_uri()}")
    return found


def published(plugins: list[str], release: str) -> list[str]:
    """What pip is to install from the index."""
    pin = f"=={release}" if release else ""
    return [
        f"flyteagents{pin}",
        *(f"flyteagents-{name}{extra}{pin}" for name, extra in map(split, plugins)),
    ]


def split(text: str) -> tuple[str, str]:
    """A plugin's name and its extras."""
    match = PLUGIN.fullmatch(text)
    if match is None:
        sys.exit(f"PLUGINS: {text!r} is not the name of a plugin, such as bigquery")
    return match["name"], match["extras"] or ""


def install(wanted: list[str], into: Path) -> None:
    """Find out what is needed, and install it: first what is pinned, with hashes."""
    lock = pins(LOCK.read_text())
    into.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        versions, hashed, rest = (folder / file for file in ("versions", "hashed", "rest"))
        versions.write_text("\n".join(text.partition("\\")[0] for text in lock.values()))
        report = folder / "report.json"
        pip("install", "--dry-run", "--ignore-installed", "--report", str(report),
            "--constraint", str(versions), *wanted)  # fmt: skip

        needed = json.loads(report.read_text())["install"]
        names = {normal(package["metadata"]["name"]) for package in needed}
        hashed.write_text("\n".join(lock[name] for name in sorted(names & lock.keys())))
        rest.write_text("\n".join(
            f"{package['metadata']['name']} @ {package['download_info']['url']}"
            for package in needed
            if normal(package["metadata"]["name"]) not in lock
        ))  # fmt: skip
        target = ("install", "--no-deps", "--no-compile", "--target", str(into))
        pip(*target, "--only-binary", ":all:", "--require-hashes", "--requirement", str(hashed))
        pip(*target, "--requirement", str(rest))


def pins(text: str) -> dict[str, str]:
    """The pins of a lock file by name, each with its marker and its hashes."""
    found: dict[str, str] = {}
    for pin in re.split(r"\n(?=\S)", text):
        name = normal(re.split(r"[=\[ ]", pin, maxsplit=1)[0])
        if "==" in pin:
            # One package may have a version for each range of Pythons.
            found[name] = f"{found[name]}\n{pin}" if name in found else pin
    return found


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def shrink(folder: Path) -> None:
    """Drop what does not run, and compile the rest: a read-only root keeps nothing compiled."""
    for name in ("bin", "tests", "test"):
        for path in [*folder.glob(name), *folder.glob(f"*/{name}")]:
            shutil.rmtree(path)
    for path in folder.rglob("*.pyi"):
        path.unlink()
    compiling = (sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
    subprocess.run((*compiling, str(folder)), check=True)


def pip(*arguments: str) -> None:
    """Run pip; its words go to the build's log."""
    done = subprocess.run((*PIP, *arguments), check=False)
    if done.returncode:
        sys.exit(f"pip {arguments[0]} has failed, see above")


if __name__ == "__main__":
    main()
