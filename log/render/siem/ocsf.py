# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; one line of the Open Cybersecurity Schema Framework goes out: API Activity for
calls, Application Lifecycle for domains, Application Error for what is missing.
"""

from __future__ import annotations

import shlex

from log import VERSION
from log.events import Event
from log.render.siem.facts import (
    AUDITED,
    CALL,
    CREATE,
    DELETE,
    DENIED,
    DOMAIN,
    LOSS,
    NOT_ENFORCED,
    READ,
    READS,
    UPDATE,
    Affected,
    Audited,
    Who,
    facts,
)
from log.render.siem.tree import line as json_line
from log.render.siem.tree import nested
from log.values import Value

SCHEMA = "1.8.0"
_PROFILES = ("host", "linux/linux_users", "security_control")
API_ACTIVITY, LIFECYCLE, ERROR = 6003, 6002, 6008
_CLASSES = {API_ACTIVITY: "API Activity", LIFECYCLE: "Application Lifecycle",
            ERROR: "Application Error"}  # fmt: skip
_ACTIONS = {CREATE: (1, "Create"), READ: (2, "Read"), UPDATE: (3, "Update"), DELETE: (4, "Delete")}
_LIFE = {"domain started": (3, "Start"), "domain stopped": (4, "Stop")}
_INFORMATIONAL, _MEDIUM, _HIGH = (1, "Informational"), (3, "Medium"), (4, "High")
_STATUS = {True: (1, "Success"), False: (2, "Failure"), None: (0, "Unknown")}
_JUDGED = {DENIED: (2, "Denied"), AUDITED: (3, "Observed"), NOT_ENFORCED: (3, "Observed")}
_DONE = {DENIED: (2, "Blocked"), NOT_ENFORCED: (99, "Not enforced")}
_FILE, _UNKNOWN = 1, 0  # kinds of files, of devices
_OTHER = 99


def line(event: Event, host: str | None = None) -> str:
    """The event with its newline, "" if it has no facts; `host`: where it happened."""
    told = facts(event)
    return json_line(_fields(told, host)) if told else ""


def _fields(told: Audited, host: str | None) -> dict[str, Value]:
    uid = LIFECYCLE if told.kind == DOMAIN else ERROR if told.kind == LOSS else API_ACTIVITY
    return {
        **_class(uid, told),
        "time": told.time // 1_000_000,
        "end_time": None if told.until is None else told.until // 1_000_000,
        "duration": None if told.duration_ns is None else told.duration_ns // 1_000_000,
        "message": told.message,
        "count": told.how_many,
        "status_id": _STATUS[told.success][0],
        "status": _STATUS[told.success][1],
        "status_code": told.reason,
        "status_detail": told.detail,
        "metadata.version": SCHEMA,
        "metadata.product.name": "libvirt-trace",
        "metadata.product.vendor_name": "libvirt-trace",
        "metadata.product.version": VERSION,
        "metadata.profiles": [*_PROFILES] if uid == API_ACTIVITY else [*_PROFILES[:2]],
        "metadata.uid": told.id,
        "metadata.correlation_uid": told.parent,
        "device.hostname": host,
        "device.type_id": None if host is None else _UNKNOWN,
        **_actor(told),
        **(_api(told, host) if uid == API_ACTIVITY else {}),
        **(_app(told.thing) if uid == LIFECYCLE else {}),
        **_more(told),
    }


def _class(uid: int, told: Audited) -> dict[str, Value]:
    if told.kind == LOSS:
        activity = (1, "General Error")
    elif told.kind == DOMAIN:
        activity = _LIFE.get(told.what, (_OTHER, told.what))
    else:
        activity = _ACTIONS.get(told.action or "", (0, "Unknown"))
    severity = _severity(told)
    return {
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": uid,
        "class_name": _CLASSES[uid],
        "activity_id": activity[0],
        "activity_name": activity[1],
        "type_uid": uid * 100 + activity[0],
        "type_name": f"{_CLASSES[uid]}: {activity[1]}",
        "severity_id": severity[0],
        "severity": severity[1],
    }


def _severity(told: Audited) -> tuple[int, str]:
    if told.kind == LOSS or told.verdict == NOT_ENFORCED:
        return _HIGH
    crashed = told.kind == DOMAIN and told.success is False
    return _MEDIUM if told.verdict == DENIED or crashed else _INFORMATIONAL


def _actor(told: Audited) -> dict[str, Value]:
    """Who it was; a call has somebody in any case, if need be one who is not known."""
    who = told.who
    if who is None:
        return {} if told.kind == LOSS or told.kind == DOMAIN else {"actor.app_name": "unknown"}
    found: dict[str, Value] = {
        "actor.user": _user(who.uid, who.account),
        "actor.process": _process(who),
    }
    if told.kind in (CALL, READS) and not any(found.values()):
        found["actor.app_name"] = who.program or "unknown"
    return found


def _user(uid: int | None, name: str | None) -> Value:
    return nested({"uid": None if uid is None else str(uid), "name": name})


def _process(who: Who) -> Value:
    if who.pid is None:
        return None
    return nested(
        {
            "pid": who.pid,
            "name": who.program,
            "cmd_line": None if who.cmdline is None else shlex.join(who.cmdline),
            "user": _user(who.uid, who.user),
            "file.name": who.program if who.exe else None,
            "file.path": who.exe,
            "file.type_id": _FILE if who.exe else None,
            "auid": who.loginuid,
            "container.uid": who.container,
        }
    )


def _api(told: Audited, host: str | None) -> dict[str, Value]:
    who = told.who
    remote = who is not None and who.address is not None
    judged = told.verdict is not None
    return {
        "api.operation": told.what,
        "api.service.name": (told.daemon.program if told.daemon else None) or "libvirt",
        "api.request.uid": told.id,
        "api.response.error": told.reason,
        "api.response.error_message": told.detail,
        "src_endpoint.ip": who.ip if who else None,
        "src_endpoint.port": who.port if who else None,
        "src_endpoint.hostname": None if remote else host,
        "src_endpoint.svc_name": (who.program if who else None) or "unknown",
        "resources": [_resource(thing) for thing in told.things],
        "action_id": _JUDGED.get(told.verdict or "", (1, "Allowed"))[0] if judged else None,
        "action": _JUDGED.get(told.verdict or "", (1, "Allowed"))[1] if judged else None,
        "disposition_id": _DONE.get(told.verdict or "", (1, "Allowed"))[0] if judged else None,
        "disposition": _DONE.get(told.verdict or "", (1, "Allowed"))[1] if judged else None,
        "policy.name": told.rule,
        "policy.is_applied": told.verdict != NOT_ENFORCED if told.rule else None,
    }


def _app(thing: Affected) -> dict[str, Value]:
    return {"app.name": thing.name or "unknown", "app.uid": thing.uuid}


def _resource(thing: Affected) -> Value:
    return nested({"type": thing.type, "name": thing.name, "uid": thing.uuid})


def _more(told: Audited) -> dict[str, Value]:
    """What the schema has no place for."""
    who, daemon = told.who, told.daemon
    return {
        "unmapped.connection_uri": told.uri,
        "unmapped.verdict": told.verdict,
        "unmapped.started_ns": told.time % 1_000_000,
        "unmapped.duration_ns": told.duration_ns,
        "unmapped.daemon": _process(daemon) if daemon else None,
        "unmapped.unit": who.unit if who else None,
        "unmapped.session": who.session if who else None,
        "unmapped.sasl": who.sasl if who else None,
        "unmapped.x509": who.x509 if who else None,
        "unmapped.claims": dict(told.claims) if told.claims else None,
    }
