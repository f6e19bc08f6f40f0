-- What keys used of their quotas. The same tables, columns and constraints as in ../postgres.

-- Messages of a key in a UTC day or month that began at `starts_at`. Without a reference to the key: a count that
-- comes late for a key that is gone must not fail those of the others. What is old is swept.
CREATE TABLE key_usage (
    key_id TEXT NOT NULL,
    span TEXT NOT NULL,
    starts_at INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    CONSTRAINT "key_usage.key_id,span,starts_at" PRIMARY KEY (key_id, span, starts_at)
) STRICT;
