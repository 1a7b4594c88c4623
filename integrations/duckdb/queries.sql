-- SPDX-License-Identifier: LGPL-2.1-or-later
-- The ten questions of ../clickhouse/queries.sql, in the same order; $domain is a prepared value.

-- who touched a domain, wherever it is
SELECT host, user, program, action, count(*) AS times, min(time) AS first, max(time) AS last
FROM libvirt_events
WHERE object_type = 'domain' AND object = $domain AND kind = 'api'
    AND NOT list_contains(types, 'access') AND (parent = '' OR verdict = 'deny')
GROUP BY ALL ORDER BY ALL;

-- failed calls by host and hour
SELECT host, time[:13] || ':00:00' AS hour, count(*) AS failed
FROM libvirt_events
WHERE kind = 'api' AND outcome = 'failure' AND verdict <> 'deny' AND parent = ''
GROUP BY ALL ORDER BY ALL;

-- policy coverage: of the calls that change something, how many in a thousand are judged
SELECT
    host,
    count(*) FILTER (verdict IN ('allow', 'deny', 'audit')) AS judged,
    count(*) FILTER (verdict = 'not enforced') AS not_enforced,
    count(*) FILTER (verdict = '') AS not_covered,
    1000 * count(*) FILTER (verdict IN ('allow', 'deny', 'audit')) // count(*) AS permille
FROM libvirt_events
WHERE kind = 'api' AND NOT list_contains(types, 'access')
GROUP BY host ORDER BY host;

-- what was denied, by rule
SELECT rule, user, action, count(*) AS times, count(DISTINCT host) AS hosts
FROM libvirt_events
WHERE verdict = 'deny'
GROUP BY rule, user, action ORDER BY times DESC, rule, user, action;

-- calls that a policy covers and nobody judged
SELECT host, program, action, count(*) AS times
FROM libvirt_events
WHERE verdict = 'not enforced'
GROUP BY host, program, action ORDER BY times DESC, host, program, action;

-- how domains ended that nobody shut down
SELECT host, object, reason, count(*) AS times, max(time) AS last
FROM libvirt_events
WHERE action = 'domain stopped' AND outcome = 'failure'
GROUP BY host, object, reason ORDER BY times DESC, host, object, reason
LIMIT 100;

-- where the log is not complete
SELECT host, action, reason, sum(calls) AS calls, count(*) AS times
FROM libvirt_events
WHERE kind = ''
GROUP BY host, action, reason ORDER BY host, action, reason;

-- clients from other hosts
SELECT address, user, count(*) AS times, count(DISTINCT host) AS hosts
FROM libvirt_events
WHERE address <> ''
GROUP BY address, user ORDER BY address, user;

-- the functions that take longest
SELECT action, count(*) AS times, max(duration_ns) AS longest, sum(duration_ns) AS total
FROM libvirt_events
WHERE kind = 'api' AND calls = 1 AND duration_ns > 0
GROUP BY action ORDER BY longest DESC, action
LIMIT 20;

-- hosts that have fallen silent: an hour before the newest event of the fleet, or longer
SELECT host, max(time) AS last
FROM libvirt_events
GROUP BY host
HAVING CAST(max(time) AS TIMESTAMP) <
    (SELECT CAST(max(time) AS TIMESTAMP) FROM libvirt_events) - INTERVAL 1 HOUR
ORDER BY host;
