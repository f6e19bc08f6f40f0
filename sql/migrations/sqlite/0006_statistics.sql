-- Sums of calls, which every chart and count is made of. The same tables, columns and constraints as in ../postgres.

-- The calls of one upstream, tool, key and outcome in one minute or quarter of an hour. `latencies` is a
-- histogram (sql/src/model/latencies.rs). Without references: sums outlive what they are about.
CREATE TABLE call_rollups (
    span TEXT NOT NULL,
    starts_at INTEGER NOT NULL,
    upstream_id TEXT NOT NULL,
    method TEXT NOT NULL,
    exposed_name TEXT NOT NULL,
    key_id TEXT NOT NULL,
    outcome TEXT NOT NULL,
    calls INTEGER NOT NULL,
    bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    latency_us INTEGER NOT NULL,
    latencies BLOB NOT NULL,
    CONSTRAINT "call_rollups.key" PRIMARY KEY (span, starts_at, upstream_id, method, exposed_name, key_id, outcome)
) STRICT;
