# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page of `report --html`: whatever names there are, it is the page that was meant. A parser of
HTML and a browser tell; the script that is tried in the browser is the page's own.
"""

from __future__ import annotations

import builtins
import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import lxml.html
import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.errors import TraceError, UsageError
from log.events import Event, Gap, Lost, VerdictInfo, call_id
from log.quote import name
from log.render import jsonl
from log.report.page import PageHead, as_json, page
from log.report.report import Report
from log.report.story import Story
from log.values import Handle, Values
from log.verbs.commands import show_report
from tests.needs import PATIENCE, lack
from tests.unit.log.report.test_story import LIBVIRTD, change
from tests.unit.log_samples import CALLER, DESTROY, HOSTILE, NS, START, any_text, call_on
from tests.unit.recording_samples import READ

BROWSER = "chromium-headless-shell"
BAD = [
    HOSTILE,
    "</script><script>document.title='pwned'</script>",
    "</title><script>document.title='pwned'</script>",
    "<!--<script>",
    "\"'><img src=x onerror=\"document.title='pwned'\">",
    "{{ 7 * 7 }}{% for %}",
    "]]>&lt;&#60;script&gt;",
    "a\u202eb\u2066\u2069c",
    "\udc80\udcff\\x80\\\\",
    "\ud800",
    "__proto__",
    "x" * (1 << 20),
]


def hostile_events() -> list[Event]:
    """Every name there is, in every place that takes one."""
    made: list[Event] = []
    for number, bad in enumerate(BAD):
        at = START + number * NS
        about = Handle("domain", {"name": bad, "uuid": f"{number}-{bad[:300]}"})
        caller = CALLER._replace(user=bad, exe=f"/tmp/{bad.replace('/', '')}")
        call = call_on(bad)._replace(time=at, caller=caller, comm=bad, function=bad)
        call.args.values["domain"] = about  # type: ignore[union-attr]
        made += (
            change(number, "started", bad)._replace(domain=about),
            call,
            call._replace(failed=True, ret=-1, time=at + 5),
            call._replace(verdict=VerdictInfo("deny", bad, bad), time=at + 9),
            change(number, "stopped", "crashed")._replace(domain=about, time=at + NS // 2),
        )
    return [*made, Gap(START + NS, START + 2 * NS, HOSTILE), Lost(START, 1, HOSTILE, HOSTILE)]


def page_of(*events: Event, asked: PageHead | None = None) -> str:
    story, report = Story(), Report()
    for event in events:
        story.add(None, event)
        report.add(event)
    return "".join(page(story, report, asked or PageHead(["/r"], [], [])))


def parsed(text: str) -> lxml.html.HtmlElement:
    return lxml.html.document_fromstring(text.encode())


@given(st.lists(any_text | st.integers(), max_size=4))
def test_json_of_the_page_is_what_it_was_and_nothing_to_html(data) -> None:
    text = as_json(data)
    assert json.loads(text) == data and text.isascii() and not set("<>&\n\x7f") & set(text)


def test_hostile_names_are_text_to_a_parser() -> None:
    text = page_of(*hostile_events(), asked=PageHead([HOSTILE, BAD[1]], [BAD[1]], [BAD[2]]))
    root = parsed(text)
    kinds = [one.get("type") for one in root.iter("script")]
    assert kinds == ["application/json", None]
    assert not list(root.iter("img")) and len(list(root.iter("title"))) == 1
    assert not [one for one in root.iter() if any(str(key).startswith("on") for key in one.attrib)]
    # what can't be seen is written as the log writes it
    shown = html.unescape(re.sub(r"(?s)<(script|style).*?</\1>", "", text)).replace("\n", "")
    assert shown.isprintable() and "pwned" in shown
    assert len(text) < 1 << 19, "the long one is cut"


def test_policy_lets_the_script_and_style_of_the_page_run_and_nothing_else() -> None:
    root = parsed(page_of(DESTROY))
    (policy,) = root.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert "style-src 'sha256-" in policy and "script-src 'sha256-" in policy
    assert not root.xpath("//@style | //@src | //@href | //link | //iframe | //object")
    # nothing of what the script uses makes markup or code of a text
    (script,) = (one.text for one in root.iter("script") if one.get("type") is None)
    made_of_text = (
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|DOMParser"
    )
    assert not re.search(made_of_text, script)


def test_missing_jinja2_is_said_in_a_line(monkeypatch) -> None:
    real = builtins.__import__

    def missing(module, *rest, **more):
        if module == "jinja2":
            raise ModuleNotFoundError(module)
        return real(module, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(TraceError, match=r"jinja2 is missing: install the package python3-jinja2"):
        page_of(DESTROY)


def lines_file(folder: Path, *events: Event) -> str:
    file = folder / "lines.json"
    file.write_text("".join(map(jsonl.line, events)))
    return str(file)


def test_file_is_there_as_a_whole_and_of_nobody_else(tmp_path, capsys) -> None:
    source, made = lines_file(tmp_path, DESTROY, READ), tmp_path / "page.html"
    assert show_report([source, "--html", str(made)]) == 0
    assert "2 calls, 0 failed" in capsys.readouterr().out
    assert made.stat().st_mode & 0o777 == 0o600
    assert parsed(made.read_text()).findtext(".//h1/bdi") == "Calls of libvirt"
    assert show_report([source, "--object", "web1", "--html", str(made)]) == 0
    assert parsed(made.read_text()).findtext(".//h1/bdi") == "web1"
    assert sorted(os.listdir(tmp_path)) == ["lines.json", "page.html"]


@pytest.mark.parametrize("more", [["--json"], ["--diff", "/"]])
def test_page_is_instead_of_other_forms(tmp_path, more) -> None:
    with pytest.raises(UsageError):
        show_report([lines_file(tmp_path, DESTROY), "--html", str(tmp_path / "page"), *more])


# in a browser


def browse(file: Path, *more: str) -> tuple[lxml.html.HtmlElement, list[str]]:
    """The document as it is when the scripts have run, and what the browser complained of."""
    if not shutil.which(BROWSER):
        lack("unit", f"{BROWSER} is not installed")
    done = subprocess.run(
        [BROWSER, "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", *more, "--dump-dom",
         f"--user-data-dir={file.parent}/browser", "--window-size=1500,1200", f"file://{file}"],
        capture_output=True, timeout=60 * PATIENCE, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    said = [line for line in done.stderr.decode().splitlines() if "CONSOLE" in line]
    return parsed(done.stdout.decode()), said


# chooses the first domain, drags over a part of its line, takes both back, and looks for words
CLICKS = """
const $ = id => document.getElementById(id), seen = [];
const domains = () => [...document.querySelectorAll("#rows td.domain")].map(one => one.textContent);
const note = () => seen.push({
  rows: [$("calls-said").textContent.replace(/of.*/, "of"), [...new Set(domains())]],
  tip: $("tip").textContent, first: (document.querySelector("#rows tr") || {}).textContent });
const svg = () => document.querySelectorAll("#lanes svg")[2];
const mouse = (what, on, x) => {
  const box = svg().getBoundingClientRect();
  const place = { clientX: box.left + x, clientY: box.top + 9, bubbles: true };
  on.dispatchEvent(new MouseEvent(what, place));
};
note();
document.querySelector("button.name").click();
mouse("mousemove", svg(), 300);
note();
mouse("mousedown", svg(), 200); mouse("mousemove", window, 300); mouse("mouseup", window, 300);
note();
for (const chip of ["", ""]) document.querySelector("#chips button").click();
note();
$("find").value = "stopped destroyed web7";
$("find").dispatchEvent(new Event("input"));
setTimeout(() => {
  note();
  const told = document.createElement("pre");
  told.id = "seen";
  told.textContent = JSON.stringify(seen);
  document.body.append(told);
}, 1000);
"""


def lanes_of(root: lxml.html.HtmlElement) -> list[str]:
    return [one.text_content() for one in root.xpath("//button[@class='name']/bdi[1]")]


def test_hostile_names_are_text_to_a_browser(tmp_path) -> None:
    """Its own policy stops a script that got into the page."""
    file = tmp_path / "page.html"
    text = page_of(*hostile_events())
    pwned = "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
    file.write_text(text.replace("<noscript>", f"{pwned}<noscript>"))
    root, said = browse(file)
    assert root.get("data-drawn") == "yes"
    assert root.findtext(".//title") == "Calls of libvirt - libvirt-trace report"
    # the script, the image and its handler
    assert len(said) == 3 and all("Content Security Policy" in line for line in said), said
    assert len(list(root.iter("img"))) == 1 and len(list(root.iter("script"))) == 3
    assert sorted(lanes_of(root)) == sorted(name(bad[:256]) for bad in BAD)
    rows = root.xpath("//tbody[@id='rows']/tr")
    assert len(rows) == 5 * len(BAD) + 2
    shown = [row.text_content() for row in rows]
    assert all(row.isprintable() and len(row) < 4000 for row in shown)
    assert sum("DENIED by rule" in row for row in shown) == len(BAD)


def test_page_of_many_calls_is_drawn_within_limits(tmp_path) -> None:
    """10,000 calls on 200 domains; of one of them a click shows what happened to it alone."""
    handles = [
        Handle("domain", {"name": f"web{number}", "uuid": str(number)}) for number in range(200)
    ]
    on = [Values({"domain": handle}) for handle in handles]
    made: list[Event] = [
        DESTROY._replace(time=START + number * NS, tid=number, args=on[number % 200],
                         failed=number % 1000 == 7)
        for number in range(10_000)
    ]  # fmt: skip
    served = made[7]._replace(tid=901, caller=LIBVIRTD, time=START + 50)  # type: ignore[call-arg]
    ended = change(20, "stopped", "destroyed", "web7", uuid="7", parent=call_id(901, START + 50))
    text = page_of(*made, ended, served, change(1, "started", "booted", "web7", uuid="7"))
    file = tmp_path / "page.html"
    file.write_text(text)
    root, said = browse(file)
    assert root.get("data-drawn") == "yes" and not said
    lanes = lanes_of(root)
    assert lanes[0] == "web7" and len(lanes) == 60, "what stands out first"
    assert len(root.xpath("//*[local-name()='svg']//*")) < 3000
    assert len(root.xpath("//tbody[@id='rows']/tr")) == 200
    assert "140 are not shown" in root.xpath("string(//button[@id='lanes-more'])")
    assert "4,000 are in the list" in root.xpath("string(//footer)"), "what is left out is said"
    # the policy lets no click of a test in
    file.write_text(re.sub(r"<meta http-equiv[^>]*>", "", text) + f"<script>{{{CLICKS}}}</script>")
    root, said = browse(file, "--virtual-time-budget=5000")
    assert not said
    seen = json.loads(root.xpath("string(//pre[@id='seen'])"))
    whole, domain, near, out, found = (one["rows"] for one in seen)
    assert whole[0].startswith("4013 of") and out == whole
    assert domain[1] == ["web7"] and near[1] == ["web7"]
    assert 0 < int(near[0].split()[0]) < int(domain[0].split()[0]) < 200
    assert "running" in seen[1]["tip"] or "off" in seen[1]["tip"] or "not known" in seen[1]["tip"]
    assert found == ["1 of", ["web7"]]
    assert "stopped: destroyed, by virDomainDestroyFlags, for libvirtd root" in seen[4]["first"]


def test_so_many_functions_have_a_plot(monkeypatch) -> None:
    monkeypatch.setattr("log.report.page.MOST_LATENCIES", 3)
    calls = [
        DESTROY._replace(function=f"virDomain{number}", duration_ns=1000 * (number + 1))
        for number in range(9)
    ]
    text = page_of(*calls)
    assert "6 functions, those with the shortest time in all, have no plot." in text
    assert text.count('"cells":') == text.count('"cells":', text.index('"functions":')) == 3
