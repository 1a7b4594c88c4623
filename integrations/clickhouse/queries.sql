-- SPDX-License-Identifier: LGPL-2.1-or-later
-- Ten questions to a fleet; {domain:String} is asked for by clickhouse-client --param_domain=web1.

-- who touched a domain, wherever it is
SELECT host, user, program, action, count() AS times, min(time) AS first, max(time) AS last
FROM libvirt_events FINAL
WHERE object_type = 'domain' AND object = {domain:String} AND kind = 'api'
    AND NOT has(types, 'access') AND (parent = '' OR verdict = 'deny')
GROUP BY host, user, program, action
ORDER BY host, user, program, action;

-- failed calls by host and hour
SELECT host, hour, sum(failed) AS failed
FROM libvirt_hourly
GROUP BY host, hour
HAVING failed > 0
ORDER BY host, hour;

-- policy coverage: of the calls that change something, how many in a thousand are judged
SELECT *, intDiv(1000 * judged, judged + not_enforced + not_covered) AS permille
FROM (
    SELECT
        host,
        sum(judged) AS judged,
        sum(not_enforced) AS not_enforced,
        sum(not_covered) AS not_covered
    FROM libvirt_coverage
    GROUP BY host
)
ORDER BY host;

-- what was denied, by rule
SELECT rule, user, action, count() AS times, uniqExact(host) AS hosts
FROM libvirt_events FINAL
WHERE verdict = 'deny'
GROUP BY rule, user, action
ORDER BY times DESC, rule, user, action;

-- calls that a policy covers and nobody judged
SELECT host, program, action, count() AS times
FROM libvirt_events FINAL
WHERE verdict = 'not enforced'
GROUP BY host, program, action
ORDER BY times DESC, host, program, action;

-- how domains ended that nobody shut down
SELECT host, object, reason, count() AS times, max(time) AS last
FROM libvirt_events FINAL
WHERE action = 'domain stopped' AND outcome = 'failure'
GROUP BY host, object, reason
ORDER BY times DESC, host, object, reason
LIMIT 100;

-- where the log is not complete
SELECT host, action, reason, sum(calls) AS calls, count() AS times
FROM libvirt_events FINAL
WHERE kind = ''
GROUP BY host, action, reason
ORDER BY host, action, reason;

-- clients from other hosts
SELECT address, user, count() AS times, uniqExact(host) AS hosts
FROM libvirt_events FINAL
WHERE address != ''
GROUP BY address, user
ORDER BY address, user;

-- the functions that take longest
SELECT action, count() AS times, max(duration_ns) AS longest, sum(duration_ns) AS total
FROM libvirt_events FINAL
WHERE kind = 'api' AND calls = 1 AND duration_ns > 0
GROUP BY action
ORDER BY longest DESC, action
LIMIT 20;

-- hosts that have fallen silent: an hour before the newest event of the fleet, or longer
SELECT host, max(time) AS last
FROM libvirt_events
GROUP BY host
HAVING last < (SELECT max(time) FROM libvirt_events) - INTERVAL 1 HOUR
ORDER BY host;
