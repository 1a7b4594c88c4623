# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program may leave libvirt's calls on one stack and make others on another: it does what it does
untraced, and each call is shown.

Others who trace this host would have return probes of their own in the programs, which may kill
them. So these have a libvirt of their own, under a name by which nobody knows it.

Where the kernel has sessions, most are run as on one that has none, too: there each instruction
that returns has a probe.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probes.kernel.loading.features import CONFINED, RETS, SESSION, TWO_LINKS, has_session
from tests.kernel.conftest import CALLS, TO_FILE, Run, logged, read_facts
from tests.needs import PATIENCE, PYTHON, rounds

ROUNDS, SLOW_ROUNDS, OPENED = (
    (10_007, rounds(1009), rounds(211))
    if PATIENCE < 10
    else (rounds(1009), rounds(211), rounds(23))  # emulated
)
IN_ANOTHER, SWITCHED, LEFT = (
    f"no return probe: {why}"
    for why in ("inside another call", "stack switched", "another call was left")
)
# a task is left inside libvirt's error handler
GREEN = """
import greenlet, libvirt, sys
connection, main, left = libvirt.open("test:///default"), greenlet.getcurrent(), 0
def handler(*_):
    global left
    left += 1
    main.switch()
libvirt.registerErrorHandler(handler, None)
def work():
    for _ in range(int(sys.argv[1])):
        try:
            connection.lookupByName("nosuch")
        except libvirt.libvirtError:
            pass
task, found = greenlet.greenlet(work), 0
while not task.dead:
    task.switch()
    found += connection.numOfDomains()
print([found, left])
"""
# the same until the standard input ends, and what is called meanwhile takes its place on the stack
ENDLESS = (
    GREEN.replace("import ", "import select, ", 1)
    .replace("main, left =", "main, left = print('\"ready\"', flush=True) or", 1)
    .replace("for _ in range(int(sys.argv[1])):", "while not select.select([0], [], [], 0)[0]:")
    .replace("found += connection.numOfDomains()", "found += sum(map(at, range(30)))")
    .replace(
        "def work",
        "def at(depth):\n    return at(depth - 1) if depth else "
        "connection.numOfDomains()\ndef work",
        1,
    )
)
# tasks that take turns there and in callbacks of libvirt's own event loop, which is one of them;
# 0 rounds: until the standard input ends
LOOP = """
import {module}, libvirt, select, sys
libvirt.virEventRegisterDefaultImpl()
connection, left, told = libvirt.open("test:///default"), 0, 0
domain = connection.lookupByName("test")
def handler(*_):
    global left
    left += 1
    {module}.sleep(0)
libvirt.registerErrorHandler(handler, None)
def on_event(*_):
    global told
    told += connection.numOfDomains()
    {module}.sleep(0)
    told += connection.numOfDomains()
connection.domainEventRegister(on_event, None)
libvirt.virEventAddTimeout(0, lambda *_: None, None)  # or the loop waits
def loop():
    while True:
        libvirt.virEventRunDefaultImpl()
        {module}.sleep(0)
def goes_on(done, rounds):
    return done < rounds if rounds else not select.select([0], [], [], 0)[0]
def change(rounds):
    done = 0
    while goes_on(done, rounds):
        done += 1
        domain.suspend()
        domain.resume()
        while told < 4 * done:
            {module}.sleep(0)
    return 0
def work(rounds):
    failed = done = 0
    while goes_on(done, rounds):
        done += 1
        try:
            connection.lookupByName("nosuch")
        except libvirt.libvirtError:
            failed += connection.numOfDomains()
    return failed
if sys.argv[1] == "0":
    print('"ready"', flush=True)
{module}.spawn(loop)
tasks = [{module}.spawn(what, int(sys.argv[1]) // 3) for what in (change, work, work, work)]
print([{results}, left, told])
"""
RUBY = """
require "fiber"
require "libvirt"
conn, opened, found = Libvirt.open("test:///default"), 0, 0
rounds = ARGV[1].to_i
goes_on = -> { rounds > 0 ? opened < rounds : !IO.select([$stdin], nil, nil, 0) }
puts '"ready"' if rounds == 0
$stdout.flush
fiber = Fiber.new do
  while goes_on.call
    Libvirt.open_auth(ARGV[0], [Libvirt::CRED_AUTHNAME, Libvirt::CRED_PASSPHRASE]) do |asked|
      Fiber.yield
      asked["type"] == Libvirt::CRED_AUTHNAME ? "fred" : "swordfish"
    end.close
    opened += 1
  end
end
while fiber.alive?
  fiber.resume
  found += conn.num_of_domains
end
p [opened, found]
"""
PERL = """
use Coro; use Sys::Virt;
my ($uri, $rounds, $opened, $found) = (@ARGV, 0, 0);
my $conn = Sys::Virt->new(uri => "test:///default");
sub goes_on {
    return $opened < $rounds if $rounds;
    vec(my $input = "", 0, 1) = 1;
    return !select($input, undef, undef, 0);
}
$| = 1;
print qq("ready"\n) unless $rounds;
my $task = async {
    while (goes_on()) {
        Sys::Virt->new(uri => $uri, auth => 1,
            credlist => [Sys::Virt::CRED_AUTHNAME, Sys::Virt::CRED_PASSPHRASE],
            callback => sub {
                cede;
                $_->{result} = $_->{type} == Sys::Virt::CRED_AUTHNAME ? "fred" : "swordfish"
                    for @{$_[0]};
                return 0;
            });
        $opened++;
    }
};
until ($task->is_zombie) {
    cede;
    $found += $conn->num_of_domains;
}
print "[$opened, $found]\n";
"""
# of each module and how its tasks are asked for what they returned
LOOPS = [
    (PYTHON, "-W", "ignore", "-c", LOOP.format(module=module, results=results))
    for module, results in (
        ("gevent", "sum(task.get() for task in tasks)"),
        ("eventlet", "sum(task.wait() for task in tasks)"),
    )
]
LANGUAGES = [("ruby", "-e", RUBY), ("perl", "-e", PERL)]

pytestmark = pytest.mark.other_kernels
WAYS = (SESSION, RETS) if has_session() else (RETS,)


@pytest.fixture(params=WAYS[:1])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the tracer learns what calls returned."""
    if request.param == RETS:
        monkeypatch.setenv(TWO_LINKS, "1")
    return str(request.param)


both_ways = pytest.mark.parametrize("way", WAYS, indirect=True)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A libvirt.so.0 that only --library names."""
    libraries = subprocess.check_output(["ldconfig", "-p"], text=True).splitlines()
    (found,) = [
        line.split(" => ")[1]
        for line in libraries
        if line.startswith("\tlibvirt.so.0 (libc6,x86-64)")
    ]
    return Path(shutil.copy(found, tmp_path / "own.so"))


@pytest.fixture
def compare(own: Path, trace, tmp_path: Path, way: str) -> Callable[..., Run]:
    """compare(COMMAND...): it has printed the same facts without and with a tracer."""

    def run(*command: object, options: tuple[str, ...] = ()) -> Run:
        words = ["env", f"LD_PRELOAD={own}", *map(str, command)]
        alone = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=60 * PATIENCE,
            text=True,
        )
        facts, log = tmp_path / "facts", tmp_path / "log.json"
        traced = ("--", *TO_FILE, str(facts), *words)
        ended = trace(
            "--library", str(own), "-o", str(log), *options, *traced, attached=False
        ).finish(lost=None)
        assert (ended.status, alone.returncode) == (0, 0), ended.stderr
        assert read_facts(facts) == [json.loads(line) for line in alone.stdout.splitlines()]
        result = logged(log)  # a busy machine does not read as fast from a pipe
        assert result.lost == 0, ended.stderr
        return Run(result, read_facts(facts))

    return run


def counts(run: Run) -> Counter[tuple[str, str]]:
    """Calls of each function by their result, or why there is none; of one process, without the
    first one.
    """
    return Counter(
        (call["function"], str(call.get("ret", call.get("reason")))) for call in run.calls()[1:]
    )


@both_ways
def test_fibers(caller, compare, way: str) -> None:
    run = compare(caller("stacks"), "fibers", ROUNDS)
    assert counts(run) == {
        ("virDomainLookupByName", "None"): ROUNDS - 1,
        ("virDomainLookupByName", "process exited"): 1,
        ("virConnectNumOfDomains", SWITCHED if way == SESSION else "1"): ROUNDS,
    }


@both_ways
@pytest.mark.parametrize("where", ["above", "below"])
def test_signal_handlers_on_another_stack(caller, compare, way: str, where: str) -> None:
    run = compare(caller("stacks"), where, ROUNDS)
    assert (
        sum(
            count
            for (function, _), count in counts(run).items()
            if function == "virConnectNumOfDomains"
        )
        == 2 * ROUNDS
    )
    assert counts(run)["virDomainLookupByName", "None"] == ROUNDS
    assert counts(run)["virConnectNumOfDomains", "1"] == (1 if way == SESSION else 2) * ROUNDS


@both_ways
@pytest.mark.parametrize("how", ["longjmp", "deeper"])
def test_calls_that_are_left_for_good(caller, compare, how: str) -> None:
    run = compare(caller("stacks"), how, ROUNDS)
    found = counts(run)
    for function in ("virDomainLookupByName", "virConnectNumOfDomains"):
        assert sum(count for (name, _), count in found.items() if name == function) == ROUNDS
    assert {why for _, why in found} <= {
        "1",
        "result lost",
        "process exited",
        LEFT,
        SWITCHED,
        IN_ANOTHER,
    }


@both_ways
def test_copied_stacks(caller, compare, way: str) -> None:
    """By code that nobody knows."""
    run = compare(caller("stacks"), "copies", ROUNDS)
    found = counts(run)
    if way == SESSION:
        assert found.pop(("virDomainLookupByName", "None")) == ROUNDS
        assert sum(found.values()) == ROUNDS
        assert {why for _, why in found} <= {LEFT, SWITCHED, IN_ANOTHER}
    else:
        assert sum(found.values()) == 2 * ROUNDS
        assert {why for _, why in found} <= {"None", "1", LEFT, "result lost"}


@pytest.mark.parametrize(
    ("way", "options"),
    dict.fromkeys([(WAYS[0], ()), (WAYS[0], ("--nested",)), (RETS, ("--nested",))]),
    indirect=["way"],
)
def test_nested_callbacks(caller, compare, way: str, options: tuple[str, ...]) -> None:
    run = compare(caller("stacks"), "nested", SLOW_ROUNDS, options=options)
    outermost = Counter(
        (call["function"], str(call.get("ret", call.get("reason"))))
        for call in run.calls()[1:]
        if call["depth"] == 0
    )
    made = {"virDomainLookupByName": ("None", 3), "virConnectNumOfDomains": ("1", 4)}
    expected: Counter[tuple[str, str]] = Counter()
    for function, (result, inside) in made.items():
        expected[function, result] += SLOW_ROUNDS
        expected[function, IN_ANOTHER if way == SESSION else result] += inside * SLOW_ROUNDS
    assert outermost == expected


@pytest.mark.parametrize(
    ("way", "options"),
    dict.fromkeys([(WAYS[0], ()), (RETS, ()), (RETS, ("--returns=probe",))]),
    indirect=["way"],
)
def test_a_hundred_calls_inside_each_other(
    caller, compare, way: str, options: tuple[str, ...]
) -> None:
    """More than the kernel, or the tracer, keeps the ends of: each is there once."""
    run = compare(caller("stacks"), "abyss", CALLS, options=options)
    made = Counter(call["function"] for call in run.calls())
    assert run.facts == ["ready", [CALLS, 100 * CALLS]]
    assert made == {
        "virConnectOpen": 1,
        "virDomainLookupByName": 100 * CALLS,
        "virConnectNumOfDomains": 101 * CALLS,  # and one outside
    }
    assert run.result.end["calls"] == sum(made.values())


@both_ways
def test_greenlets(compare, way: str) -> None:
    run = compare(PYTHON, "-c", GREEN, SLOW_ROUNDS)
    assert run.facts == [[SLOW_ROUNDS + 1, SLOW_ROUNDS]]
    if way == RETS:  # another one may return where the one that was left would
        assert {why for _, why in counts(run)} == {"result lost", LEFT}
        return
    assert counts(run)["virDomainLookupByName", "None"] == SLOW_ROUNDS
    assert (
        counts(run)["virConnectNumOfDomains", SWITCHED]
        + counts(run)["virConnectNumOfDomains", LEFT]
        >= SLOW_ROUNDS
    )


@pytest.mark.parametrize(
    ("program", "options"),
    zip(LOOPS, [(), ("--all",)], strict=True),  # with all, the loop is shown
)
def test_loops_of_coroutines(compare, program: tuple[str, ...], options: tuple[str, ...]) -> None:
    rounds = SLOW_ROUNDS // 3
    run = compare(*program, 3 * rounds, options=options)
    assert run.facts == [[3 * rounds, 3 * rounds, 4 * rounds]]
    made = Counter(call["function"] for call in run.calls())
    assert made["virDomainSuspend"] == made["virDomainResume"] == rounds
    assert made["virDomainLookupByName"] == 1 + 3 * rounds
    assert made["virConnectNumOfDomains"] == 7 * rounds


@pytest.mark.parametrize("program", LANGUAGES)
def test_fibers_of_languages(compare, auth_uri: str, program: tuple[str, ...]) -> None:
    run = compare(*program, auth_uri, OPENED)
    assert run.facts[0][0] == OPENED and run.facts[0][1] > OPENED
    opened = Counter(
        call["type"] for call in run.calls("virConnectOpenAuth") if call["args"]["name"] == auth_uri
    )
    assert opened == {"call": OPENED}
    assert len(run.calls("virConnectNumOfDomains")) == run.facts[0][1]


@pytest.fixture
def endless(own: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """endless(COMMAND...): it has begun, and goes on until its standard input ends."""
    running: list[subprocess.Popen[str]] = []

    def start(*command: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LD_PRELOAD": str(own)},
        )
        running.append(process)
        assert process.stdout and process.stdout.readline() == '"ready"\n'
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@both_ways
def test_calls_after_one_that_was_left_for_good(
    own: Path, trace, endless, caller, way: str
) -> None:
    """As soon as it is known that the process copies no stacks, each has its result: where that
    kills nobody if it is wrong, or where it is asked for.
    """
    process = endless(caller("stacks"), "longjmp", 0)
    risk = ("--returns=probe",) if way == SESSION else ()
    tracer = trace("--library", str(own), "-p", str(process.pid), *risk)
    tracer.wait_for(lambda event: event.get("ret") == 1, count=SLOW_ROUNDS + 1)
    result = tracer.stop(lost=None)
    process.communicate("", timeout=60 * PATIENCE)
    assert process.returncode == 0
    made = [(call["function"], str(call.get("ret", call.get("reason")))) for call in result.calls()]
    known = max((number for number, (_, why) in enumerate(made, 1) if why == LEFT), default=0)
    before, after = Counter(made[:known]), Counter(made[known:])
    assert before["virConnectNumOfDomains", "1"] <= 1, "that none was left before"
    if result.events[-1]["lost"]:  # the program calls as fast as it can
        assert {why for _, why in after} <= {"1", "result lost", "still running"}
    else:
        assert (
            after.pop(("virDomainLookupByName", "still running"), 0)
            + after.pop(("virConnectNumOfDomains", "still running"), 0)
            <= 1
        )
        assert after.keys() == {
            ("virDomainLookupByName", "result lost"),
            ("virConnectNumOfDomains", "1"),
        }
        assert after["virConnectNumOfDomains", "1"] >= SLOW_ROUNDS


@both_ways
def test_greenlets_are_not_taken_for_left_for_good(own: Path, trace, endless, way: str) -> None:
    """Their return addresses are copied away from the stack, and come back after the reader was
    asked.
    """
    process = endless(PYTHON, "-c", ENDLESS)
    risk = ("--returns=probe",) if way == SESSION else ()
    tracer = trace("--library", str(own), "-p", str(process.pid), *risk)
    # whether the place of a return address is taken depends on how deep Python goes
    tracer.wait_for(lambda event: event.get("reason") in (LEFT, SWITCHED), 10, SLOW_ROUNDS)
    tracer.stop(lost=None)
    output, _ = process.communicate("", timeout=60 * PATIENCE)
    assert process.returncode == 0
    found, left = json.loads(output)
    assert found == 30 * (left + 1)


def begin_and_end_in_the_middle(own: Path, trace, process: subprocess.Popen[str]) -> list[int]:
    """Three times; what the process counted."""
    for _ in range(3):
        tracer = trace(
            "--library", str(own), "-p", str(process.pid), "--max-events", str(SLOW_ROUNDS)
        )
        assert len(tracer.finish(lost=None).calls()) == SLOW_ROUNDS
    output, _ = process.communicate("", timeout=60 * PATIENCE)
    assert process.returncode == 0
    counted: list[int] = json.loads(output)
    return counted


@pytest.mark.parametrize(
    ("way", "what"),
    [(WAYS[0], what) for what in ("fibers", "above", "below", "longjmp", "deeper", "nested")]
    + [(way, "copies") for way in WAYS]
    + [(RETS, "fibers")][: len(WAYS) - 1],
    indirect=["way"],
)
def test_tracing_that_begins_and_ends_in_the_middle(
    own: Path, trace, endless, caller, way: str, what: str
) -> None:
    rounds, backs = begin_and_end_in_the_middle(own, trace, endless(caller("stacks"), what, 0))
    assert backs == (4 if what == "nested" else 1) * rounds


@pytest.mark.parametrize("program", LOOPS)
def test_loops_whose_tracing_begins_and_ends_in_the_middle(
    own: Path, trace, endless, program: tuple[str, ...]
) -> None:
    failed, left, told = begin_and_end_in_the_middle(own, trace, endless(*program, 0))
    assert failed == left > 0 and told > 0


@pytest.mark.parametrize("program", LANGUAGES)
def test_fibers_whose_tracing_begins_and_ends_in_the_middle(
    own: Path, trace, endless, auth_uri: str, program: tuple[str, ...]
) -> None:
    opened, found = begin_and_end_in_the_middle(own, trace, endless(*program, auth_uri, 0))
    assert 0 < opened < found


def test_two_links_as_before(trace, caller, tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    environment = {**os.environ, TWO_LINKS: "1"}
    result = trace(
        "--returns",
        "--",
        *TO_FILE,
        str(facts),
        str(caller("late")),
        attached=False,
        env=environment,
    ).finish()
    assert result.events[0]["link"] in ("uprobe_multi", "perf_event")
    assert {call["type"] for call in result.calls()} == {"call"}


def test_two_links_are_said_to_kill_programs_with_coroutines(trace, steps) -> None:
    """Who insists on return probes before Linux 6.13; this one makes no calls."""
    ready = "import greenlet, libvirt; print('ready', flush=True); input()"
    with subprocess.Popen(
        [PYTHON, "-c", ready], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        step = steps()
        tracer = trace("--returns", "-p", str(step.pid), env={**os.environ, TWO_LINKS: "1"})
        step.call(1)
        result = tracer.stop()
        process.communicate("\n")
    assert (
        " has coroutines, which return probes may kill before Linux 6.13: leave out --returns=probe"
    ) in result.stderr
    assert [call["type"] for call in result.calls()] == ["call"]


@pytest.mark.skipif(not has_session(), reason="before Linux 6.13 nothing decides about each call")
def test_confined_tasks_are_spared(traced, caller) -> None:
    """As where a return probe is a system call that seccomp refuses; its other thread has
    results.
    """
    run = traced(caller("confined"), CALLS, env={**os.environ, CONFINED: "1"})
    assert "--returns=ret has them" in run.result.stderr
    told = Counter(
        (call["tid"] == call["pid"], str(call.get("ret", call.get("reason"))))
        for call in run.calls("virConnectNumOfDomains")
    )
    assert told == {(False, "no return probe: under seccomp"): CALLS, (True, "1"): CALLS}


def test_instructions_that_return_have_probes_where_it_is_asked_for(traced, caller) -> None:
    """On any kernel, and confined tasks need not be spared."""
    run = traced(
        caller("confined"), CALLS, options=("--returns=ret",), env={**os.environ, CONFINED: "1"}
    )
    told = Counter((call["type"], call["ret"]) for call in run.calls("virConnectNumOfDomains"))
    assert told == {("call", 1): 2 * CALLS}
