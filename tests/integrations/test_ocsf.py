# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole schema of OCSF: every line is valid by it and by that of the releases before, and the
excerpt that other tests have is of it.
"""

import functools
import json

import jsonschema
import pytest

from log.render.siem import ocsf
from tests.integrations.ocsf_excerpt import CLASSES, PROFILES, VERSION, excerpt
from tests.needs import ROOT
from tests.unit.log.render.siem.samples import EVERY, HOST, hostile


@functools.cache
def validator(version, uid):
    from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

    source = OcsfJsonSchemaEmbedded(get_ocsf_schema(version))
    return jsonschema.Draft202012Validator(source.get_class_schema(CLASSES[uid], PROFILES))


def test_excerpt_is_of_the_published_schema():
    kept = json.loads((ROOT / "tests/unit/log/render/siem/ocsf.json").read_text())
    assert kept == excerpt()


@pytest.mark.parametrize("version", ["1.5.0", "1.6.0", "1.7.0", VERSION])
def test_every_line_is_valid_by_the_whole_schema(version):
    for event in (*EVERY, hostile("\x1b|=")):
        told = json.loads(ocsf.line(event, HOST))
        validator(version, told["class_uid"]).validate(told)
