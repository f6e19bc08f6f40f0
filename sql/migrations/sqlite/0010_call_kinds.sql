-- A call record is a few numbers: what it has in common with others like it stands once, in a table beside it. The
-- same tables, columns and constraints as in ../postgres.

CREATE TABLE call_kinds (
    kind INTEGER NOT NULL,
    until INTEGER NOT NULL,
    method TEXT NOT NULL,
    upstream_id TEXT NOT NULL,
    upstream_name TEXT NOT NULL,
    exposed_name TEXT NOT NULL,
    key_id TEXT NOT NULL,
    transport TEXT NOT NULL,
    era TEXT NOT NULL,
    mode TEXT NOT NULL,
    outcome TEXT NOT NULL,
    CONSTRAINT "call_kinds.kind" PRIMARY KEY (kind)
) STRICT;

-- `until` is when no more calls of a kind may come, unless it is put off: it goes when the oldest record is younger.
-- The kinds of the records that there are get small numbers, which the numbers of later ones don't get near.
INSERT INTO call_kinds
    SELECT ROW_NUMBER() OVER (ORDER BY MAX(at)), MAX(at) + 86400000, method, upstream_id, upstream_name,
        exposed_name, key_id, transport, era, mode, outcome
    FROM call_records
    GROUP BY method, upstream_id, upstream_name, exposed_name, key_id, transport, era, mode, outcome;
ALTER TABLE call_records ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;
UPDATE call_records SET kind = call_kinds.kind FROM call_kinds
    WHERE call_records.method = call_kinds.method AND call_records.upstream_id = call_kinds.upstream_id
    AND call_records.upstream_name = call_kinds.upstream_name
    AND call_records.exposed_name = call_kinds.exposed_name AND call_records.key_id = call_kinds.key_id
    AND call_records.transport = call_kinds.transport AND call_records.era = call_kinds.era
    AND call_records.mode = call_kinds.mode AND call_records.outcome = call_kinds.outcome;
ALTER TABLE call_records DROP COLUMN method;
ALTER TABLE call_records DROP COLUMN upstream_id;
ALTER TABLE call_records DROP COLUMN upstream_name;
ALTER TABLE call_records DROP COLUMN exposed_name;
ALTER TABLE call_records DROP COLUMN key_id;
ALTER TABLE call_records DROP COLUMN transport;
ALTER TABLE call_records DROP COLUMN era;
ALTER TABLE call_records DROP COLUMN mode;
ALTER TABLE call_records DROP COLUMN outcome;
