-- Sums of calls, which every chart and count is made of. The same tables, columns and constraints as in ../sqlite.

-- The calls of one upstream, tool, key and outcome in one minute or quarter of an hour. `latencies` is a
-- histogram (sql/src/model/latencies.rs). Without references: sums outlive what they are about.
CREATE TABLE call_rollups (
    span TEXT COLLATE "C" NOT NULL,
    starts_at BIGINT NOT NULL,
    upstream_id TEXT COLLATE "C" NOT NULL,
    method TEXT COLLATE "C" NOT NULL,
    exposed_name TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    calls BIGINT NOT NULL,
    bytes_in BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    latency_us BIGINT NOT NULL,
    latencies BYTEA NOT NULL,
    CONSTRAINT "call_rollups.key" PRIMARY KEY (span, starts_at, upstream_id, method, exposed_name, key_id, outcome)
);
