# SPDX-License-Identifier: LGPL-2.1-or-later
"""JSON lines: the documented contract to the letter, and for any value what json.dumps of a
plain dict would mean.
"""

import datetime
import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from log.events import BY_CALL, NO_CALL, CallError, Command, DomainEvent, TargetInfo, VerdictInfo
from log.quote import well_formed
from log.render import jsonl
from log.values import (
    CutText,
    EnumValue,
    Flags,
    Handle,
    Pointer,
    Redacted,
    Unreadable,
    Value,
    Values,
)
from tests.unit.log_samples import (
    ATTACHED,
    CALLER,
    CLOCK,
    CONNECT,
    DESTROY,
    END,
    HOSTILE,
    LOST,
    START,
    UNATTACHED,
    UUID,
    any_client,
    any_text,
    any_value,
    any_values,
    call_on,
)


def test_call_line_is_the_documented_one():
    assert jsonl.line(DESTROY) == (
        '{"type":"call","time":"2023-11-15T09:24:11.403660789Z","id":"41207-1700040251403660789","pid":41207,"tid":41207,"comm":"virsh","exe":"/usr/bin/virsh",'
        '"cmdline":["virsh","destroy","web1"],"uid":0,"user":"root","loginuid":1000,"unit":null,"container":null,'
        '"function":"virDomainDestroyFlags","library":"libvirt.so.0","depth":0,"write":true,'
        f'"args":{{"domain":{{"type":"domain","name":"web1","uuid":"{UUID}"}},'
        '"flags":{"value":1,"names":["VIR_DOMAIN_DESTROY_GRACEFUL"]}},'
        '"out":{},"ret":0,"failed":false,"error":null,"duration_ns":4100000,"parent":null,"client":null,"verdict":null}\n'
    )


def test_failed_call_carries_its_error():
    error = CallError(42, "VIR_ERR_NO_DOMAIN", "VIR_FROM_QEMU", "Domain not found")
    parsed = json.loads(jsonl.line(DESTROY._replace(ret=-1, failed=True, error=error)))
    assert (parsed["ret"], parsed["failed"]) == (-1, True)
    assert parsed["error"] == {
        "code": 42,
        "name": "VIR_ERR_NO_DOMAIN",
        "domain": "VIR_FROM_QEMU",
        "message": "Domain not found",
    }


def test_denied_call_is_a_verdict():
    denied = DESTROY._replace(
        ret=-1, failed=True, duration_ns=None, verdict=VerdictInfo("deny", "keep-web", "ask first")
    )
    parsed = json.loads(jsonl.line(denied))
    assert next(iter(parsed)) == "type" and parsed["type"] == "verdict"
    assert list(parsed)[-3:] == ["action", "rule", "message"]
    assert (parsed["action"], parsed["rule"], parsed["message"], parsed["ret"]) == (
        "deny",
        "keep-web",
        "ask first",
        -1,
    )
    assert parsed["duration_ns"] is None


def test_audited_call_stays_a_call():
    parsed = json.loads(jsonl.line(DESTROY._replace(verdict=VerdictInfo("audit", "keep-web"))))
    assert parsed["type"] == "call" and parsed["verdict"] == {"action": "audit", "rule": "keep-web"}


def test_unfinished_call_has_a_reason_and_no_result():
    parsed = json.loads(
        jsonl.line(DESTROY._replace(ret=None, duration_ns=None, unfinished="process exited"))
    )
    assert (
        parsed["type"] == "unfinished"
        and parsed["reason"] == "process exited"
        and "ret" not in parsed
    )


def test_call_says_what_may_have_caused_it():
    parsed = json.loads(jsonl.line(DESTROY._replace(parent="1-2")))
    assert parsed["parent"] == "1-2" and "one_of" not in parsed
    parsed = json.loads(jsonl.line(DESTROY._replace(one_of=("1-2", "3-4"))))
    assert (parsed["parent"], parsed["one_of"]) == (None, ["1-2", "3-4"])


WHO = (
    '"pid":41207,"tid":7,"comm":"rpc","exe":"/usr/bin/virsh","cmdline":["virsh","destroy","web1"],"uid":0,"user":"root","loginuid":1000,'
    '"unit":null,"container":null'
)


def test_command_to_a_monitor_is_the_documented_one():
    command = Command(START, 2_900_000, 7, "rpc", CALLER, '{"execute":"stop"}', "1-2")
    assert jsonl.line(command) == (
        f'{{"type":"monitor","time":"2023-11-15T09:24:11.403660789Z","id":"7-{START}",{WHO},'
        '"text":"{\\"execute\\":\\"stop\\"}","duration_ns":2900000,"parent":"1-2"}\n'
    )


def test_command_to_an_agent_is_one_to_a_monitor_but_for_its_type():
    command = Command(START, None, 7, "rpc", CALLER, "guest-shutdown", "1-2")
    assert jsonl.line(command._replace(to_agent=True)) == jsonl.line(command).replace(
        '"monitor"', '"agent"'
    )


def test_domain_event_is_the_documented_one():
    event = DomainEvent(
        START,
        7,
        "rpc",
        CALLER,
        Handle("domain", {"name": "web1", "uuid": UUID}),
        "stopped",
        "crashed",
        None,
    )
    line = (
        f'{{"type":"domain","time":"2023-11-15T09:24:11.403660789Z","id":"7-{START}",{WHO},'
        f'"domain":{{"type":"domain","name":"web1","uuid":"{UUID}"}},"event":"stopped","detail":"crashed","parent":null,"cause":null,"qemu_pid":null}}\n'
    )
    assert jsonl.line(event) == line
    known = json.loads(line)
    one_of = event._replace(one_of=("1-2", "3-4"), cause=BY_CALL)
    assert json.loads(jsonl.line(one_of)) == {
        **known,
        "one_of": ["1-2", "3-4"],
        "cause": {"kind": "call"},
    }
    by = event._replace(parent="1-2", cause=BY_CALL)
    assert json.loads(jsonl.line(by)) == {
        **known,
        "parent": "1-2",
        "cause": {"kind": "call", "id": "1-2"},
    }
    assert json.loads(jsonl.line(event._replace(cause=NO_CALL))) == {
        **known,
        "cause": {"kind": "no call"},
    }


def test_lost_arguments_are_null():
    assert json.loads(jsonl.line(DESTROY._replace(args=None)))["args"] is None


def test_values_have_the_documented_shapes():
    values: dict[str, Value] = {
        "cut": CutText("abc", 18211),
        "endless": CutText("abc", None),
        "bad": Unreadable(0x7F12),
        "callback": Pointer(0x401000),
        "null": None,
        "state": EnumValue(1, "VIR_DOMAIN_RUNNING"),
        "odd": EnumValue(99, None),
        "flags": Flags(0x81, ("VIR_A", "0x80")),
        "secret": Redacted(12),
        "handle": Handle("volume", {"name": "a", "key": "/a"}),
        "params": {"cpu_shares": 2**64 - 1, "ok": True},
        "list": [1, -(2**63), "x"],
        "doubles": [1.5, math.nan, math.inf, -math.inf],
    }
    assert json.loads(jsonl.line(DESTROY._replace(out=Values(values))))["out"] == {
        "cut": {"text": "abc", "length": 18211, "cut": True},
        "endless": {"text": "abc", "length": None, "cut": True},
        "bad": {"unreadable": "0x7f12"},
        "callback": {"pointer": "0x401000"},
        "null": None,
        "state": {"value": 1, "name": "VIR_DOMAIN_RUNNING"},
        "odd": {"value": 99, "name": None},
        "flags": {"value": 129, "names": ["VIR_A", "0x80"]},
        "secret": {"redacted": True, "length": 12},
        "handle": {"type": "volume", "name": "a", "key": "/a"},
        "params": {"cpu_shares": 18446744073709551615, "ok": True},
        "list": [1, -9223372036854775808, "x"],
        "doubles": [1.5, "NaN", "Infinity", "-Infinity"],
    }


def test_other_events_have_the_documented_shapes():
    assert jsonl.line(ATTACHED) == (
        '{"type":"attached","time":"2023-11-15T09:24:11.403660789Z","version":"1.0","functions":526,'
        '"targets":[{"path":"/usr/lib/libvirt.so.0","libvirt":"9.0.0"}],"attach_ms":9.8,"link":"uprobe_multi"}\n'
    )
    assert jsonl.line(LOST) == (
        '{"type":"lost","time":"2023-11-15T09:24:11.403660789Z","count":12,"ring":"read",'
        '"reason":"buffer full","uid":null,"user":null,"details_lost":0}\n'
    )
    assert jsonl.line(UNATTACHED) == (
        '{"type":"unattached","time":"2023-11-15T09:24:11.403660789Z","path":"/a '
        'b/libvirt.so.0","reason":"it is cut short"}\n'
    )
    assert (
        jsonl.line(CLOCK)
        == '{"type":"clock","time":"2023-11-15T09:24:11.403660789Z","step_ns":-3600000000000}\n'
    )
    assert jsonl.line(END) == (
        '{"type":"end","time":"2023-11-15T09:24:11.403660789Z","calls":1234,"failed":5,"denied":1,"lost":0,"seconds":12.34,"details_lost":0}\n'
    )


def test_attached_event_tells_what_is_unusual():
    target = TargetInfo("/lib32/libvirt.so.0", None, "32-bit: arguments are not decoded")
    parsed = json.loads(jsonl.line(ATTACHED._replace(targets=(target,), mapped_ms=120.5)))
    assert parsed["targets"] == [
        {
            "path": "/lib32/libvirt.so.0",
            "libvirt": None,
            "note": "32-bit: arguments are not decoded",
        }
    ]
    assert parsed["mapped_ms"] == 120.5


def test_hostile_name_is_one_line_of_visible_characters_and_parses_back():
    line = jsonl.line(call_on(HOSTILE))
    assert line.count("\n") == 1 and line[:-1].isprintable()
    assert json.loads(line)["args"]["domain"]["name"] == HOSTILE


def test_visible_letters_are_written_as_they_are():
    assert '"name":"Büro 東京"' in jsonl.line(call_on("Büro 東京"))


def test_shared_arguments_are_encoded_once():
    values = Values({"domain": CONNECT})
    first = jsonl.line(DESTROY._replace(args=values))
    values.values.clear()
    assert jsonl.line(DESTROY._replace(args=values)) == first


def test_equal_ids_of_dead_callers_are_not_mixed_up():
    for pid in range(5000):
        assert (
            json.loads(jsonl.line(DESTROY._replace(caller=CALLER._replace(pid=pid))))["pid"] == pid
        )


@given(
    args=st.none() | any_values,
    out=any_values,
    ret=any_value,
    comm=any_text,
    cmdline=st.none() | st.lists(any_text, max_size=3).map(tuple),
    start=st.integers(0, 2**63 - 1),
    error=st.none()
    | st.builds(
        CallError,
        st.integers(0, 2**31 - 1),
        st.none() | any_text,
        st.none() | any_text,
        st.none() | any_text,
    ),
    client=any_client,
    verdict=st.none()
    | st.builds(
        VerdictInfo,
        st.sampled_from(["allow", "audit", "deny", ("not enforced")]),
        any_text,
        *2 * [st.none() | any_text],
    ),
)
def test_any_call_means_the_same_as_its_plain_dict(
    args, out, ret, comm, cmdline, start, error, client, verdict
):
    caller = CALLER._replace(cmdline=cmdline)
    call = DESTROY._replace(
        args=args,
        out=out,
        ret=ret,
        comm=comm,
        caller=caller,
        time=start,
        error=error,
        client=client,
        verdict=verdict,
    )
    line = jsonl.line(call)
    assert line.endswith("}\n") and line[:-1].isprintable()
    second, ns = divmod(start, 10**9)
    at = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=second)
    expected: dict[str, Any] = {
        "type": "call",
        "time": f"{at:%Y-%m-%dT%H:%M:%S}.{ns:09d}Z",
        "id": f"41207-{start}",
    }
    expected |= {"pid": 41207, "tid": 41207, "comm": comm}
    expected |= {
        key: value
        for key, value in caller._asdict().items()
        if key not in ("real_uid", "ppid", "session")
    } | {
        "function": call.function,
        "library": "libvirt.so.0",
        "depth": 0,
        "write": True,
    }
    expected |= {"args": args and args.values, "out": out.values, "ret": ret, "failed": False}
    expected |= {
        "error": error and error._asdict(),
        "duration_ns": 4100000,
        "parent": None,
        "client": client and client.fields(),
    }
    expected |= {"verdict": verdict and {"action": verdict.action, "rule": verdict.rule or None}}
    if verdict and verdict.note is not None:
        expected["verdict"]["note"] = verdict.note
    if verdict and verdict.action == "deny":
        expected |= {
            "type": "verdict",
            "action": "deny",
            "rule": verdict.rule,
            "message": verdict.message,
        }
    elif verdict and verdict.message is not None:
        expected["verdict"]["message"] = verdict.message
    found = json.loads(line)
    for key in ("types", "returns"):  # for reading it back: recording/test_parse
        found.pop(key, None)
    assert found == json.loads(json.dumps(_plain(expected)))


def _plain(item):
    if isinstance(item, str):
        return well_formed(item)
    if isinstance(item, float) and not math.isfinite(item):
        return "NaN" if math.isnan(item) else "Infinity" if item > 0 else "-Infinity"
    if isinstance(item, CutText):
        return {"text": well_formed(item.text), "length": item.length, "cut": True}
    if isinstance(item, Unreadable):
        return {"unreadable": hex(item.address)}
    if isinstance(item, Pointer):
        return {"pointer": hex(item.address)}
    if isinstance(item, Handle):
        return _plain({"type": item.type, **item.fields})
    if isinstance(item, (EnumValue, Flags)):
        return _plain(item._asdict())
    if isinstance(item, Redacted):
        return {"redacted": True, "length": item.length}
    if isinstance(item, dict):
        return {well_formed(key): _plain(inner) for key, inner in item.items()}
    if isinstance(item, (list, tuple)):
        return [_plain(inner) for inner in item]
    return item


def test_time_is_exact_to_the_nanosecond():
    assert '"time":"2023-11-15T09:24:11.000000001Z"' in jsonl.line(
        DESTROY._replace(time=START // 10**9 * 10**9 + 1)
    )
