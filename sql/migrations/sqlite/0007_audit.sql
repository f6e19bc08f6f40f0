-- What the audit chain begins with and what protects its end, and pins. The same as in ../postgres.

-- The event before the first that is kept, a MAC over both ends, and the chain's key, sealed.
ALTER TABLE audit_head ADD COLUMN first_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE audit_head ADD COLUMN first_hash BLOB;
ALTER TABLE audit_head ADD COLUMN seal BLOB;
ALTER TABLE audit_head ADD COLUMN chain_key TEXT;
CREATE INDEX audit_events_of_target ON audit_events (target_id);
CREATE INDEX audit_events_of_action ON audit_events (action, seq);

-- What an upstream's definitions were when an admin last agreed to them. `approved` is that definition, where it isn't
-- the stored one; `review` says what an admin is to look at.
CREATE TABLE definition_pins (
    upstream_id TEXT NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    upstream_name TEXT NOT NULL,
    identity BLOB NOT NULL,
    pin BLOB NOT NULL,
    approved BLOB,
    review TEXT,
    found_at INTEGER,
    CONSTRAINT "definition_pins.upstream_id,kind,upstream_name" PRIMARY KEY (upstream_id, kind, upstream_name)
) STRICT;

-- Sessions that clients of keys opened, for an admin to see; everything else lies sealed in the session's id.
CREATE TABLE client_sessions (
    rid TEXT NOT NULL,
    key_id TEXT NOT NULL,
    path TEXT NOT NULL,
    version TEXT NOT NULL,
    client TEXT,
    address TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    CONSTRAINT "client_sessions.rid" PRIMARY KEY (rid)
) STRICT;
CREATE INDEX client_sessions_of_key ON client_sessions (key_id, created_at);
