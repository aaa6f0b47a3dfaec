"""What the documentation shows is what is there."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from flyteagents._cli.commands import main
from flyteagents._kernel.verdicts import TABLE

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_into_a_page_lead_to_headings_that_are_there(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([\w./-]*)#([^)]+)\)", page.read_text()):
        text = (page.parent / target).read_text() if target else page.read_text()
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
        assert anchor in anchors, f"{page.name} links to {target}#{anchor}"


@pytest.mark.parametrize(
    "page", [*PAGES, *sorted((ROOT / "examples").rglob("README.md"))], ids=lambda page: page.name
)
def test_a_page_that_installs_says_how_from_a_checkout(page: Path) -> None:
    text = page.read_text()
    if re.search(r"^ *pip install ", text, re.MULTILINE):
        assert re.search(r"pip install '?\./core", text), f"{page.name} says only an index"


def test_the_pieces_of_the_guide_are_the_example() -> None:
    acme = ROOT / "examples" / "acme"
    assert pieces("python") == code((acme / "src" / "acme_agent" / "__init__.py").read_text())
    assert pieces("toml") == code((acme / "pyproject.toml").read_text())


def pieces(language: str) -> str:
    """The code of the guide that makes the example, all of it in one file."""
    guide = (ROOT / "docs" / "write-an-agent.md").read_text().partition("## What you do not")[0]
    return code("\n".join(re.findall(rf"^```{language}\n(.*?)^```$", guide, re.S | re.M)))


def code(text: str) -> str:
    """Without empty lines: between two pieces there may be another number of them."""
    return "\n".join(line for line in text.splitlines() if line.strip())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_only_commands_that_make_knows(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"(?:`|^)make ([a-z-]+)\b", page.read_text(), re.MULTILINE):
        assert target in targets, f"{page.name} names make {target}"


def test_the_page_of_the_command_line_has_the_options_that_there_are() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", page)) - {"--help"}
    context = click.Context(main)
    commands = [main.get_command(context, name) for name in main.list_commands(context)]
    there = {
        option
        for command in commands
        if command is not None
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--")
    }
    assert told == there


def test_the_kits_page_and_the_kit_name_the_same_modules() -> None:
    kit = ROOT / "core" / "src" / "flyteagents" / "kit"
    modules = {path.stem for path in kit.glob("*.py")} - {"__init__"}
    guide = (ROOT / "docs" / "write-an-agent.md").read_text()
    for text in (guide, (kit / "__init__.py").read_text()):
        assert set(re.findall(r"\| `kit\.(\w+)` \|", text)) == modules


def test_the_files_that_the_design_names_are_there() -> None:
    page = (ROOT / "docs" / "design.md").read_text()
    named = re.findall(r"`((?:K|core|plugins|tests|deploy)/[\w/.-]+)`", page)
    assert len(named) > 60
    for name in named:
        path = ROOT / name.replace("K/", "core/src/flyteagents/_kernel/", 1)
        assert path.exists(), f"the design names {name}, which is not there"


def test_the_design_knows_every_module_of_the_kernel() -> None:
    page = (ROOT / "docs" / "design.md").read_text()
    kernel = ROOT / "core" / "src" / "flyteagents" / "_kernel"
    for module in kernel.glob("[a-z]*.py"):
        assert f"`K/{module.name}`" in page, f"the design does not say what {module.name} is for"


def test_the_error_table_of_the_design_has_the_rows_of_the_code() -> None:
    rows = {kind.__name__ for kind in TABLE} - {"VendorError", "Exception"}
    page = (ROOT / "docs" / "design.md").read_text()
    shown = page.split("| raised |")[1].split("\n\n")[0]
    for row in rows | {"Throttled", "Unavailable", "anything else"}:
        assert row in shown, f"the design does not say what becomes of {row}"
