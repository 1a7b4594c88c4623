-- SPDX-License-Identifier: LGPL-2.1-or-later
-- Files of libvirt-trace --format ecs as a table, without a server: duckdb -init views.sql, where
-- these lie. Tested by make check-integrations.

CREATE VIEW libvirt_events AS
SELECT DISTINCT
    coalesce(host.name, '') AS host,
    "@timestamp" AS time,
    coalesce(event.category[1], '') AS kind,
    coalesce(event.id, '') AS id,
    coalesce(libvirt.parent, '') AS parent,
    event.action AS action,
    coalesce(event.type, []) AS types,
    event.outcome AS outcome,
    coalesce(event.reason, '') AS reason,
    coalesce(libvirt.verdict, '') AS verdict,
    coalesce(rule.name, '') AS rule,
    coalesce(user.name, '') AS user,
    coalesce(process.name, '') AS program,
    coalesce(source.address, '') AS address,
    coalesce(libvirt.object.type, '') AS object_type,
    coalesce(libvirt.object.name, '') AS object,
    coalesce(event.duration, 0) AS duration_ns,
    coalesce(libvirt.calls, 1) AS calls
FROM read_json('*.ecs', format = 'newline_delimited', columns = {
    '@timestamp': 'VARCHAR',
    host: 'STRUCT(name VARCHAR)',
    event: 'STRUCT(category VARCHAR[], id VARCHAR, "action" VARCHAR, "type" VARCHAR[], outcome VARCHAR,
        reason VARCHAR, duration UBIGINT)',
    rule: 'STRUCT(name VARCHAR)',
    user: 'STRUCT(name VARCHAR)',
    process: 'STRUCT(name VARCHAR)',
    source: 'STRUCT(address VARCHAR)',
    libvirt: 'STRUCT(parent VARCHAR, verdict VARCHAR, calls UBIGINT,
        "object" STRUCT("type" VARCHAR, name VARCHAR))'
}) AS line;
