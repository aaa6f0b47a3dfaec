"""Where statements end, and what they begin with."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyteagents_snowflake.scanner import parts, tokens


def split(text: str) -> list[str]:
    return [part.text for part in parts(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1", ["SELECT 1"]),
        (" SELECT 1 ; ", ["SELECT 1"]),
        ("SELECT 1;;\n SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';', \";\", 'it''s;', 'a\\';' ; SELECT 2", None),
        ("SELECT $$ ; $$; SELECT 2", ["SELECT $$ ; $$", "SELECT 2"]),
        ("-- one; two\nSELECT 1 // ;\n; /* ; */ SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("BEGIN; INSERT INTO t VALUES (1); COMMIT", None),
        ("BEGIN TRANSACTION; SELECT 1", ["BEGIN TRANSACTION", "SELECT 1"]),
        (
            "BEGIN LET x := 1; RETURN x; END; SELECT 2",
            ["BEGIN LET x := 1; RETURN x; END", "SELECT 2"],
        ),
        (
            "DECLARE x INT; BEGIN IF (1=1) THEN x := 2; END IF; RETURN x; END; SELECT 2",
            None,
        ),
        ("BEGIN FOR r IN c DO CASE WHEN a THEN b; END CASE; END FOR; END; SELECT 2", None),
        ("SELECT CASE WHEN 1 THEN 2 END; SELECT 2", ["SELECT CASE WHEN 1 THEN 2 END", "SELECT 2"]),
        ("CREATE PROCEDURE p() AS BEGIN SELECT 1; END; CALL p()", None),
        ("CREATE PROCEDURE p() AS DECLARE x INT; BEGIN SELECT 1; END; CALL p()", None),
        ("SELECT begin FROM t; SELECT 2", ["SELECT begin FROM t", "SELECT 2"]),
        ("SELECT 'open ; SELECT 2", ["SELECT 'open ; SELECT 2"]),
        ("-- nothing", []),
        ("", []),
    ],
)
def test_a_semicolon_ends_a_statement_only_where_it_is_one(
    text: str, expected: list[str] | None
) -> None:
    found = split(text)
    if expected is not None:
        assert found == expected
    else:
        assert found[-1] in ("SELECT 2", "COMMIT", "CALL p()")
        assert len(found) == text.count("; SELECT 2") + text.count("; CALL") + (
            3 if "COMMIT" in text else 1
        )


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("/* hint */ select 1", True),
        ("WITH a AS (SELECT 1) SELECT * FROM a", True),
        ("(SELECT 1) UNION (SELECT 2)", True),
        ("SHOW TABLES", True),
        ("CALL p()", True),
        ("INSERT INTO t SELECT 1", False),
        ("MERGE INTO t USING s ON 1=1 WHEN MATCHED THEN DELETE", False),
        ("CREATE TABLE t AS SELECT 1", False),
        ("COPY INTO t FROM @s", False),
        ("COMMIT", False),
        ("BEGIN", False),
        ("begin name t", False),
        ("BEGIN SELECT 1; END", True),
    ],
)
def test_what_a_statement_leaves_follows_from_its_first_word(text: str, tells: bool) -> None:
    [part] = parts(text)
    assert part.tells is tells


def test_a_part_knows_where_it_is() -> None:
    text = "/* a */ SELECT 1;\n  -- b\n  INSERT INTO t VALUES (2) ;"
    assert [text[part.at : part.at + len(part.text)] for part in parts(text)] == split(text)
    assert [part.word for part in parts(text)] == ["SELECT", "INSERT"]


def test_one_statement_is_not_read_to_its_end() -> None:
    """A batch has a literal for each cell, and the event loop stands still meanwhile."""
    text = f"INSERT INTO t VALUES {'(1), ' * 50_000}(2);\n"

    def took(read: Callable[[str], object]) -> float:
        began = time.process_time()
        read(text)
        return time.process_time() - began

    assert took(parts) < took(lambda text: list(tokens(text))) / 10
    assert [(part.word, part.at) for part in parts(text)] == [("INSERT", 0)]


@given(st.text())
def test_every_text_is_scanned_to_its_end(text: str) -> None:
    found = [token.text for token in tokens(text)]
    assert all(found)
    assert all(part.text in text for part in parts(text))
