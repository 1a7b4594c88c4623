# SPDX-License-Identifier: LGPL-2.1-or-later
"""Dashboards: each question of theirs is answered by ClickHouse's engine, or asks Prometheus for
numbers that there are.
"""

import json
import re
import subprocess

from tests.needs import ROOT
from tests.unpacked import unpacked

GRAFANA = ROOT / "integrations" / "grafana"
PANEL = {"id", "title", "type", "gridPos", "datasource", "targets"}


def panels(name):
    board = json.loads((GRAFANA / f"{name}.json").read_text())
    assert {"uid", "title", "schemaVersion", "panels", "templating"} <= board.keys()
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        assert panel.keys() >= PANEL and panel["targets"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    return board["panels"]


def test_numbers_are_those_that_the_tracer_has():
    source = (ROOT / "log/exports/metrics.py").read_text()
    shipped = (ROOT / "integrations/prometheus/alerts.yml").read_text() + (
        ROOT / "tracer.8"
    ).read_text()
    asked = [target["expr"] for panel in panels("prometheus") for target in panel["targets"]]
    names = {name for expr in asked for name in re.findall(r"libvirt_\w+", expr)}
    assert len(names) >= 8
    for name in names:
        bare = re.sub(r"_(total|bucket)$", "", name)
        short = bare.removeprefix("libvirt_").removeprefix("trace_export_")
        assert name in shipped or bare in shipped or f'"{short}"' in source, name


def test_questions_to_prometheus_parse(tmp_path):
    promtool = unpacked("usr/bin/promtool", "integrations")
    asked = [target["expr"] for panel in panels("prometheus") for target in panel["targets"]]
    rules = [
        {"record": f"panel{number}", "expr": expr.replace("$__rate_interval", "5m")}
        for number, expr in enumerate(asked)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(asked)} rules found" in done.stdout


def test_questions_to_clickhouse_are_answered(tmp_path):
    from chdb.session import Session

    session = Session(str(tmp_path / "clickhouse"))
    text = (ROOT / "integrations/clickhouse/schema.sql").read_text()
    for statement in re.sub(r"--.*$", "", text, flags=re.M).split(";\n"):
        if statement.strip():
            session.query(statement)
    for panel in panels("clickhouse"):
        for target in panel["targets"]:
            sql = target["rawSql"].replace("$__timeFilter(time)", "time > toDateTime('2020-01-01')")
            for macro in ("$__fromTime", "$__toTime"):
                sql = sql.replace(macro, "now()")
            assert "$__" not in sql
            session.query(sql)
    session.close()
