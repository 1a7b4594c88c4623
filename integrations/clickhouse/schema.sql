-- SPDX-License-Identifier: LGPL-2.1-or-later
-- Lines of libvirt-trace --format ecs come in, as JSONAsString; events, and what is counted of them
-- by the hour, are kept. Tested by make check-integrations.

CREATE TABLE libvirt_lines (line String) ENGINE = Null;

-- a line that is sent twice is one event, once parts are merged, or with FINAL
CREATE TABLE libvirt_events
(
    host         LowCardinality(String),
    time         DateTime64(9, 'UTC'),
    kind         LowCardinality(String),           -- api, host, or "" for what is missing
    id           String,
    parent       String,                           -- id of the call that it was done for
    action       LowCardinality(String),           -- the function, "domain stopped", "calls lost"
    types        Array(LowCardinality(String)),    -- access, change, creation, deletion, denied ...
    outcome      LowCardinality(String),
    reason       LowCardinality(String),
    verdict      LowCardinality(String),           -- allow, deny, audit, not enforced, or ""
    rule         LowCardinality(String),
    user         LowCardinality(String),           -- "" where it is not known
    uid          Nullable(UInt32),
    login        Nullable(UInt32),
    pid          UInt32,
    program      LowCardinality(String),
    address      String,                           -- of a client on another host
    daemon       LowCardinality(String),
    object_type  LowCardinality(String),
    object       String,
    uuid         String,
    uri          LowCardinality(String),
    duration_ns  UInt64,
    calls        UInt64,                           -- 1, or of reads that were counted
    line         String CODEC(ZSTD(6)),
    INDEX by_object object TYPE bloom_filter GRANULARITY 4,
    INDEX by_uuid uuid TYPE bloom_filter GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (host, time, action, id)
TTL toDateTime(time) + INTERVAL 90 DAY;

-- each line is parsed once
CREATE MATERIALIZED VIEW libvirt_parsed TO libvirt_events AS
WITH JSONExtract(line, 'Tuple(
        `@timestamp` String,
        host Tuple(name String),
        event Tuple(category Array(String), id String, action String, type Array(String),
            outcome String, reason String, duration UInt64),
        rule Tuple(name String),
        user Tuple(name String, id String),
        process Tuple(pid UInt32, name String),
        source Tuple(address String),
        service Tuple(name String),
        libvirt Tuple(parent String, verdict String, calls Nullable(UInt64),
            login Tuple(id String), connection Tuple(uri String),
            object Tuple(type String, name String, uuid String))
    )') AS told
SELECT
    told.host.name AS host,
    parseDateTime64BestEffortOrZero(told.`@timestamp`, 9, 'UTC') AS time,
    arrayElement(told.event.category, 1) AS kind,
    told.event.id AS id,
    told.libvirt.parent AS parent,
    told.event.action AS action,
    told.event.type AS types,
    told.event.outcome AS outcome,
    told.event.reason AS reason,
    told.libvirt.verdict AS verdict,
    told.rule.name AS rule,
    told.user.name AS user,
    toUInt32OrNull(told.user.id) AS uid,
    toUInt32OrNull(told.libvirt.login.id) AS login,
    told.process.pid AS pid,
    told.process.name AS program,
    told.source.address AS address,
    told.service.name AS daemon,
    told.libvirt.object.type AS object_type,
    told.libvirt.object.name AS object,
    told.libvirt.object.uuid AS uuid,
    told.libvirt.connection.uri AS uri,
    told.event.duration AS duration_ns,
    ifNull(told.libvirt.calls, 1) AS calls,
    line
FROM libvirt_lines;

-- calls by the hour: each once, where it began; what a daemon did for it only if that was denied.
-- These count what is sent, so what is sent twice, too.
CREATE TABLE libvirt_hourly
(
    host        LowCardinality(String),
    hour        DateTime('UTC'),
    action      LowCardinality(String),
    calls       UInt64,
    failed      UInt64,
    denied      UInt64,
    duration_ns UInt64
)
ENGINE = SummingMergeTree
ORDER BY (host, hour, action)
TTL hour + INTERVAL 2 YEAR;

CREATE MATERIALIZED VIEW libvirt_hourly_counted TO libvirt_hourly AS
SELECT
    host,
    toStartOfHour(toDateTime(time, 'UTC')) AS hour,
    action,
    sum(calls) AS calls,
    countIf(outcome = 'failure' AND verdict != 'deny') AS failed,
    countIf(verdict = 'deny') AS denied,
    sum(duration_ns) AS duration_ns
FROM libvirt_events
WHERE kind = 'api' AND (parent = '' OR verdict = 'deny')
GROUP BY host, hour, action;

-- of calls that change something: how many a policy has judged
CREATE TABLE libvirt_coverage
(
    host         LowCardinality(String),
    hour         DateTime('UTC'),
    judged       UInt64,
    not_enforced UInt64,
    not_covered  UInt64
)
ENGINE = SummingMergeTree
ORDER BY (host, hour)
TTL hour + INTERVAL 2 YEAR;

CREATE MATERIALIZED VIEW libvirt_coverage_counted TO libvirt_coverage AS
SELECT
    host,
    toStartOfHour(toDateTime(time, 'UTC')) AS hour,
    countIf(verdict IN ('allow', 'deny', 'audit')) AS judged,
    countIf(verdict = 'not enforced') AS not_enforced,
    countIf(verdict = '') AS not_covered
FROM libvirt_events
WHERE kind = 'api' AND NOT has(types, 'access')
GROUP BY host, hour;
