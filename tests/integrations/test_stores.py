# SPDX-License-Identifier: LGPL-2.1-or-later
"""ClickHouse's engine and DuckDB answer the ten questions about a fleet, each by its own reading of
the same files: the answers are the same, and as they were counted when the files were made.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest

from tests.integrations import fleet
from tests.needs import ROOT

STORES = ROOT / "integrations"
LINES = int(os.environ.get("LIBVIRT_TRACE_FLEET_LINES", "1000000"))
HOSTS, DOMAIN = 50, "web0042"


def statements(file: Path) -> list[str]:
    text = re.sub(r"^\s*--.*$| +-- .*$", "", file.read_text(), flags=re.M)
    return [part.strip() for part in text.split(";\n") if part.strip()]


def questions(file: Path) -> list[str]:
    return re.findall(r"^-- (.*)\n(?:SELECT)", file.read_text(), flags=re.M)


class Stores:
    """Both, with the same day of a fleet in them."""

    def __init__(self, folder: Path) -> None:
        import duckdb
        from chdb.session import Session

        begun = time.monotonic()
        self.expected = fleet.write(folder, LINES, HOSTS)
        said = [f"{self.expected.lines} lines, {self.expected.size >> 20} MiB"]
        said.append(f"made in {time.monotonic() - begun:.0f}s")
        begun = time.monotonic()
        self.click = Session(str(folder / "clickhouse"))
        for statement in statements(STORES / "clickhouse" / "schema.sql"):
            self.click.query(statement)
        self.insert(f"{folder}/*.ecs")
        said.append(f"in ClickHouse after {time.monotonic() - begun:.0f}s")
        begun = time.monotonic()
        self.duck = duckdb.connect()
        view = (STORES / "duckdb" / "views.sql").read_text().replace("*.ecs", f"{folder}/*.ecs")
        self.duck.execute(view.replace("CREATE VIEW libvirt_events", "CREATE TABLE libvirt_events"))
        said.append(f"in DuckDB after {time.monotonic() - begun:.0f}s")
        print("; ".join(said))

    def insert(self, files: str) -> None:
        self.click.query(
            f"INSERT INTO libvirt_lines SELECT json FROM file('{files}', JSONAsString)"
        )

    def ask_click(self, question: str, **values: str) -> list[list[str]]:
        for name, value in values.items():
            question = question.replace(f"{{{name}:String}}", f"'{value}'")
        answer = self.click.query(question, "JSONCompactEachRow").bytes().decode()
        return [[_plain(item) for item in json.loads(line)] for line in answer.splitlines()]

    def ask_duck(self, question: str, **values: str) -> list[list[str]]:
        named = {name: value for name, value in values.items() if f"${name}" in question}
        answer = self.duck.execute(question, named or None).fetchall()
        return [[_plain(item) for item in row] for row in answer]


def _plain(item: object) -> str:
    """The same text for the same, in both: times without what only one of them has."""
    text = str(item)
    if re.fullmatch(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?", text):
        return text.replace("T", " ").removesuffix("Z")
    return text


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    made = Stores(tmp_path_factory.mktemp("fleet"))
    yield made
    made.click.close()


QUESTIONS = questions(STORES / "clickhouse" / "queries.sql")


def test_there_are_ten_questions_and_both_stores_have_them():
    assert len(QUESTIONS) == 10
    assert questions(STORES / "duckdb" / "queries.sql") == QUESTIONS


def test_every_line_is_there_once(stores):
    (count,) = stores.ask_click("SELECT count() FROM libvirt_events FINAL")
    assert count == [str(stores.expected.lines)]
    assert stores.ask_duck("SELECT count(*) FROM libvirt_events") == [count]
    assert stores.ask_click("SELECT uniqExact(host) FROM libvirt_events") == [[str(HOSTS)]]


@pytest.mark.parametrize("number", range(10), ids=QUESTIONS)
def test_both_give_the_same_answer(stores, number):
    click = statements(STORES / "clickhouse" / "queries.sql")[number]
    duck = statements(STORES / "duckdb" / "queries.sql")[number]
    answer = stores.ask_click(click, domain=DOMAIN)
    assert answer
    assert answer == stores.ask_duck(duck, domain=DOMAIN)


def test_answers_are_what_was_counted(stores):
    asked = [
        stores.ask_click(question, domain=DOMAIN)
        for question in statements(STORES / "clickhouse" / "queries.sql")
    ]
    touched, failed, coverage, denied, gaps, crashed, lost, afar, slow, silent = asked
    expected = stores.expected
    assert sum(int(row[4]) for row in touched) == expected.touched[DOMAIN]
    assert {(row[0], row[1][:13].replace(" ", "T")): int(row[2]) for row in failed} == (
        expected.failed
    )
    assert sum(int(row[1]) for row in coverage) == (
        expected.kinds["judged"] + expected.kinds["denied"]
    )
    assert sum(int(row[3]) for row in denied) == expected.kinds["denied"]
    assert sum(int(row[3]) for row in gaps) == expected.kinds["not enforced"]
    assert sum(int(row[4]) for row in lost) == expected.kinds["lost"]
    assert sum(int(row[3]) for row in lost) == expected.kinds["lost"] * 17
    assert sum(int(row[3]) for row in crashed) <= expected.kinds["crash"]
    assert [row[:3] for row in afar] == [
        ["192.0.2.7", "ops@EXAMPLE.ORG", str(expected.kinds["afar"])]
    ]
    assert [row[0] for row in silent] == expected.silent and len(silent) == fleet.SILENT
    assert len(slow) >= 7


def test_what_is_sent_twice_is_one_event(stores, tmp_path):
    one = fleet.write(tmp_path, 23, 1)
    before = stores.ask_click("SELECT count() FROM libvirt_events FINAL")
    lines = (tmp_path / "kvm00.ecs").read_text().replace("kvm00", "twice")
    (tmp_path / "twice.json").write_text(lines)
    for _ in range(2):
        stores.insert(f"{tmp_path}/twice.json")
    after = stores.ask_click("SELECT count() FROM libvirt_events FINAL")
    assert int(after[0][0]) - int(before[0][0]) == one.lines == 23
