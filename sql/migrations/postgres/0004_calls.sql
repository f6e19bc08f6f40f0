-- Call records. The same tables, columns and constraints as in ../sqlite, but that here the records lie in a
-- partition for each month, which the store makes ahead; what has none falls to the default one.

CREATE TABLE call_records (
    at BIGINT NOT NULL,
    id BIGINT NOT NULL,
    method TEXT COLLATE "C" NOT NULL,
    upstream_id TEXT COLLATE "C" NOT NULL,
    upstream_name TEXT COLLATE "C" NOT NULL,
    exposed_name TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    transport TEXT COLLATE "C" NOT NULL,
    era TEXT COLLATE "C" NOT NULL,
    mode TEXT COLLATE "C" NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    latency_us BIGINT NOT NULL,
    bytes_in BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    CONSTRAINT "call_records.at,id" PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);
CREATE TABLE call_records_default PARTITION OF call_records DEFAULT;

-- How many records each month has, by its first moment: counting them would read them all.
CREATE TABLE call_months (
    month BIGINT NOT NULL,
    records BIGINT NOT NULL,
    CONSTRAINT "call_months.month" PRIMARY KEY (month)
);
