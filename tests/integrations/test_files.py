# SPDX-License-Identifier: LGPL-2.1-or-later
"""Configurations of programs that can't be run here are at least what they look like, and say that
nobody has run them.
"""

import pytest
import yaml

from tests.needs import ROOT

INTEGRATIONS = ROOT / "integrations"
NOT_RUN = {
    "vector": {"sources", "transforms", "sinks"},
    "fluent-bit": {"service", "parsers", "pipeline"},
    "opentelemetry-collector": {"receivers", "processors", "exporters", "extensions", "service"},
}


def read(name):
    text = (INTEGRATIONS / name / "libvirt-trace.yaml").read_text()
    assert "Not run by the project's tests" in text
    return yaml.safe_load(text)


@pytest.mark.parametrize("name", NOT_RUN)
def test_configuration_has_its_parts(name):
    assert read(name).keys() == NOT_RUN[name]


def test_parts_of_vector_and_the_collector_are_joined():
    vector = read("vector")
    stages = vector["sources"] | vector["transforms"]
    for stage in (*vector["transforms"].values(), *vector["sinks"].values()):
        assert set(stage["inputs"]) <= stages.keys()
    collector = read("opentelemetry-collector")
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= collector[kind].keys()


def test_every_folder_is_in_the_table():
    told = (INTEGRATIONS / "README.md").read_text()
    for folder in INTEGRATIONS.iterdir():
        if folder.is_dir():
            assert f"| `{folder.name}/` |" in told
            assert ("not run" in told.split(f"`{folder.name}/`")[1].split("\n")[0]) == (
                folder.name in (*NOT_RUN, "grafana")
            )
