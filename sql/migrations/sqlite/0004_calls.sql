-- Call records. The same tables, columns and constraints as in ../postgres. A record lies where its key is: in
-- the order of time, without an index beside it.

CREATE TABLE call_records (
    at INTEGER NOT NULL,
    id INTEGER NOT NULL,
    method TEXT NOT NULL,
    upstream_id TEXT NOT NULL,
    upstream_name TEXT NOT NULL,
    exposed_name TEXT NOT NULL,
    key_id TEXT NOT NULL,
    transport TEXT NOT NULL,
    era TEXT NOT NULL,
    mode TEXT NOT NULL,
    outcome TEXT NOT NULL,
    latency_us INTEGER NOT NULL,
    bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    CONSTRAINT "call_records.at,id" PRIMARY KEY (at, id)
) STRICT, WITHOUT ROWID;

-- How many records each month has, by its first moment: counting them would read them all.
CREATE TABLE call_months (
    month INTEGER NOT NULL,
    records INTEGER NOT NULL,
    CONSTRAINT "call_months.month" PRIMARY KEY (month)
) STRICT;
