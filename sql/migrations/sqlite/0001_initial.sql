-- What the gateway remembers. The same tables, columns and constraints as in ../postgres.
-- Moments are milliseconds since 1970, yes and no are 1 and 0, ids are UUIDs as text, and texts
-- sort by their bytes. A constraint is called by its table and columns, as SQLite reports it.

CREATE TABLE installation (
    id INTEGER NOT NULL CONSTRAINT "installation.one" CHECK (id = 1),
    instance_id TEXT NOT NULL,
    key_check TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    CONSTRAINT "installation.id" PRIMARY KEY (id)
) STRICT;

CREATE TABLE revision (
    id INTEGER NOT NULL CONSTRAINT "revision.one" CHECK (id = 1),
    value INTEGER NOT NULL,
    CONSTRAINT "revision.id" PRIMARY KEY (id)
) STRICT;
INSERT INTO revision (id, value) VALUES (1, 0);

CREATE TABLE changes (
    revision INTEGER NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    CONSTRAINT "changes.revision" PRIMARY KEY (revision)
) STRICT;

CREATE TABLE upstreams (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    transport TEXT NOT NULL,
    conn_params TEXT NOT NULL,
    credential TEXT,
    enabled INTEGER NOT NULL,
    sort_order INTEGER NOT NULL,
    auto_sync INTEGER NOT NULL,
    name_prefix TEXT NOT NULL,
    isolation TEXT NOT NULL,
    protocol TEXT NOT NULL,
    call_timeout_s INTEGER,
    tags TEXT NOT NULL,
    on_tool_change TEXT NOT NULL,
    sanitize INTEGER NOT NULL,
    sync_tools INTEGER NOT NULL,
    sync_prompts INTEGER NOT NULL,
    sync_resources INTEGER NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT "upstreams.id" PRIMARY KEY (id),
    CONSTRAINT "upstreams.name" UNIQUE (name)
) STRICT;

CREATE TABLE upstream_info (
    upstream_id TEXT NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    era TEXT NOT NULL,
    protocol_version TEXT NOT NULL,
    server_info BLOB NOT NULL,
    capabilities BLOB NOT NULL,
    instructions BLOB,
    seen_at INTEGER NOT NULL,
    CONSTRAINT "upstream_info.upstream_id" PRIMARY KEY (upstream_id)
) STRICT;

CREATE TABLE definitions (
    id TEXT NOT NULL,
    upstream_id TEXT NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    upstream_name TEXT NOT NULL,
    exposed_name TEXT NOT NULL,
    body BLOB NOT NULL,
    hash BLOB NOT NULL,
    position INTEGER NOT NULL,
    enabled INTEGER NOT NULL,
    sort_order INTEGER,
    first_seen_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    CONSTRAINT "definitions.id" PRIMARY KEY (id),
    CONSTRAINT "definitions.upstream_id,kind,upstream_name" UNIQUE (upstream_id, kind, upstream_name)
) STRICT;

CREATE TABLE list_states (
    upstream_id TEXT NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    synced_at INTEGER NOT NULL,
    ttl_ms INTEGER,
    cache_scope_public INTEGER NOT NULL,
    findings TEXT NOT NULL,
    CONSTRAINT "list_states.upstream_id,kind" PRIMARY KEY (upstream_id, kind)
) STRICT;

CREATE TABLE names (
    kind TEXT NOT NULL,
    exposed_name TEXT NOT NULL,
    upstream_id TEXT NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    upstream_name TEXT NOT NULL,
    wanted TEXT NOT NULL,
    CONSTRAINT "names.kind,exposed_name" PRIMARY KEY (kind, exposed_name),
    CONSTRAINT "names.upstream_id,kind,upstream_name" UNIQUE (upstream_id, kind, upstream_name)
) STRICT;

CREATE TABLE api_keys (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    hash BLOB NOT NULL,
    previous_hash BLOB,
    previous_until INTEGER,
    enabled INTEGER NOT NULL,
    expires_at INTEGER,
    mode TEXT NOT NULL,
    upstream_ids TEXT,
    allowed_cidrs TEXT NOT NULL,
    rate_limit INTEGER,
    rate_window_s INTEGER,
    quota_per_day INTEGER,
    quota_per_month INTEGER,
    last_used_at INTEGER,
    last_ip TEXT,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT "api_keys.id" PRIMARY KEY (id),
    CONSTRAINT "api_keys.name" UNIQUE (name),
    CONSTRAINT "api_keys.hash" UNIQUE (hash)
) STRICT;

CREATE TABLE admin_users (
    id TEXT NOT NULL,
    username TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT "admin_users.id" PRIMARY KEY (id),
    CONSTRAINT "admin_users.username" UNIQUE (username)
) STRICT;

CREATE TABLE admin_tokens (
    id TEXT NOT NULL,
    admin_id TEXT NOT NULL REFERENCES admin_users (id) ON DELETE CASCADE,
    issued_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    address TEXT,
    user_agent TEXT NOT NULL,
    CONSTRAINT "admin_tokens.id" PRIMARY KEY (id)
) STRICT;
CREATE INDEX admin_tokens_of_admin ON admin_tokens (admin_id);

CREATE TABLE settings (
    id INTEGER NOT NULL CONSTRAINT "settings.one" CHECK (id = 1),
    document TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT "settings.id" PRIMARY KEY (id)
) STRICT;

CREATE TABLE audit_events (
    seq INTEGER NOT NULL,
    id TEXT NOT NULL,
    at INTEGER NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id TEXT,
    actor_name TEXT,
    address TEXT,
    user_agent TEXT,
    action TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target_id TEXT,
    target_name TEXT,
    diff TEXT NOT NULL,
    request_id TEXT,
    outcome TEXT NOT NULL,
    hash BLOB NOT NULL,
    CONSTRAINT "audit_events.seq" PRIMARY KEY (seq),
    CONSTRAINT "audit_events.id" UNIQUE (id)
) STRICT;

CREATE TABLE audit_head (
    id INTEGER NOT NULL CONSTRAINT "audit_head.one" CHECK (id = 1),
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    CONSTRAINT "audit_head.id" PRIMARY KEY (id)
) STRICT;

CREATE TABLE leases (
    name TEXT NOT NULL,
    holder TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    CONSTRAINT "leases.name" PRIMARY KEY (name)
) STRICT;

CREATE TABLE sessions (
    rid TEXT NOT NULL,
    ended INTEGER NOT NULL,
    log_level TEXT,
    expires_at INTEGER NOT NULL,
    CONSTRAINT "sessions.rid" PRIMARY KEY (rid)
) STRICT;
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
