-- SPDX-License-Identifier: LGPL-2.1-or-later
-- Files of libvirt-trace --format ecs as a table, without a server: duckdb -init views.sql, where
-- these lie. Tested by make check-integrations.

CREATE VIEW libvirt_events AS
SELECT DISTINCT
    coalesce(json ->> '$.host.name', '') AS host,
    json ->> '$."@timestamp"' AS time,
    coalesce(json ->> '$.event.category[0]', '') AS kind,
    coalesce(json ->> '$.event.id', '') AS id,
    coalesce(json ->> '$.libvirt.parent', '') AS parent,
    json ->> '$.event.action' AS action,
    coalesce(json -> '$.event.type', '[]') AS types,
    json ->> '$.event.outcome' AS outcome,
    coalesce(json ->> '$.event.reason', '') AS reason,
    coalesce(json ->> '$.libvirt.verdict', '') AS verdict,
    coalesce(json ->> '$.rule.name', '') AS rule,
    coalesce(json ->> '$.user.name', '') AS user,
    coalesce(json ->> '$.process.name', '') AS program,
    coalesce(json ->> '$.source.address', '') AS address,
    coalesce(json ->> '$.libvirt.object.type', '') AS object_type,
    coalesce(json ->> '$.libvirt.object.name', '') AS object,
    coalesce(CAST(json ->> '$.event.duration' AS UBIGINT), 0) AS duration_ns,
    coalesce(CAST(json ->> '$.libvirt.calls' AS UBIGINT), 1) AS calls
FROM read_json_objects('*.ecs', format = 'newline_delimited');
