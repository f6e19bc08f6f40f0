-- What the audit chain begins with and what protects its end, and pins. The same as in ../sqlite.

-- The event before the first that is kept, a MAC over both ends, and the chain's key, sealed.
ALTER TABLE audit_head ADD COLUMN first_seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE audit_head ADD COLUMN first_hash BYTEA;
ALTER TABLE audit_head ADD COLUMN seal BYTEA;
ALTER TABLE audit_head ADD COLUMN chain_key TEXT COLLATE "C";
CREATE INDEX audit_events_of_target ON audit_events (target_id);
CREATE INDEX audit_events_of_action ON audit_events (action, seq);

-- What an upstream's definitions were when an admin last agreed to them. `approved` is that definition, where it isn't
-- the stored one; `review` says what an admin is to look at.
CREATE TABLE definition_pins (
    upstream_id TEXT COLLATE "C" NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    kind TEXT COLLATE "C" NOT NULL,
    upstream_name TEXT COLLATE "C" NOT NULL,
    identity BYTEA NOT NULL,
    pin BYTEA NOT NULL,
    approved BYTEA,
    review TEXT COLLATE "C",
    found_at BIGINT,
    CONSTRAINT "definition_pins.upstream_id,kind,upstream_name" PRIMARY KEY (upstream_id, kind, upstream_name)
);

-- Sessions that clients of keys opened, for an admin to see; everything else lies sealed in the session's id.
CREATE TABLE client_sessions (
    rid TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    path TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    client TEXT COLLATE "C",
    address TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    CONSTRAINT "client_sessions.rid" PRIMARY KEY (rid)
);
CREATE INDEX client_sessions_of_key ON client_sessions (key_id, created_at);
