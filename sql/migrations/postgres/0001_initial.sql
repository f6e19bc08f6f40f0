-- What the gateway remembers. The same tables, columns and constraints as in ../sqlite.
-- Moments are milliseconds since 1970, yes and no are 1 and 0, ids are UUIDs as text, and texts
-- sort by their bytes. A constraint is called by its table and columns, as SQLite reports it.

CREATE TABLE installation (
    id BIGINT NOT NULL CONSTRAINT "installation.one" CHECK (id = 1),
    instance_id TEXT COLLATE "C" NOT NULL,
    key_check TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT "installation.id" PRIMARY KEY (id)
);

CREATE TABLE revision (
    id BIGINT NOT NULL CONSTRAINT "revision.one" CHECK (id = 1),
    value BIGINT NOT NULL,
    CONSTRAINT "revision.id" PRIMARY KEY (id)
);
INSERT INTO revision (id, value) VALUES (1, 0);

CREATE TABLE changes (
    revision BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    CONSTRAINT "changes.revision" PRIMARY KEY (revision)
);

CREATE TABLE upstreams (
    id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    transport TEXT COLLATE "C" NOT NULL,
    conn_params TEXT COLLATE "C" NOT NULL,
    credential TEXT COLLATE "C",
    enabled BIGINT NOT NULL,
    sort_order BIGINT NOT NULL,
    auto_sync BIGINT NOT NULL,
    name_prefix TEXT COLLATE "C" NOT NULL,
    isolation TEXT COLLATE "C" NOT NULL,
    protocol TEXT COLLATE "C" NOT NULL,
    call_timeout_s BIGINT,
    tags TEXT COLLATE "C" NOT NULL,
    on_tool_change TEXT COLLATE "C" NOT NULL,
    sanitize BIGINT NOT NULL,
    sync_tools BIGINT NOT NULL,
    sync_prompts BIGINT NOT NULL,
    sync_resources BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT "upstreams.id" PRIMARY KEY (id),
    CONSTRAINT "upstreams.name" UNIQUE (name)
);

CREATE TABLE upstream_info (
    upstream_id TEXT COLLATE "C" NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    era TEXT COLLATE "C" NOT NULL,
    protocol_version TEXT COLLATE "C" NOT NULL,
    server_info BYTEA NOT NULL,
    capabilities BYTEA NOT NULL,
    instructions BYTEA,
    seen_at BIGINT NOT NULL,
    CONSTRAINT "upstream_info.upstream_id" PRIMARY KEY (upstream_id)
);

CREATE TABLE definitions (
    id TEXT COLLATE "C" NOT NULL,
    upstream_id TEXT COLLATE "C" NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    kind TEXT COLLATE "C" NOT NULL,
    upstream_name TEXT COLLATE "C" NOT NULL,
    exposed_name TEXT COLLATE "C" NOT NULL,
    body BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    position BIGINT NOT NULL,
    enabled BIGINT NOT NULL,
    sort_order BIGINT,
    first_seen_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    CONSTRAINT "definitions.id" PRIMARY KEY (id),
    CONSTRAINT "definitions.upstream_id,kind,upstream_name" UNIQUE (upstream_id, kind, upstream_name)
);

CREATE TABLE list_states (
    upstream_id TEXT COLLATE "C" NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    kind TEXT COLLATE "C" NOT NULL,
    synced_at BIGINT NOT NULL,
    ttl_ms BIGINT,
    cache_scope_public BIGINT NOT NULL,
    findings TEXT COLLATE "C" NOT NULL,
    CONSTRAINT "list_states.upstream_id,kind" PRIMARY KEY (upstream_id, kind)
);

CREATE TABLE names (
    kind TEXT COLLATE "C" NOT NULL,
    exposed_name TEXT COLLATE "C" NOT NULL,
    upstream_id TEXT COLLATE "C" NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    upstream_name TEXT COLLATE "C" NOT NULL,
    wanted TEXT COLLATE "C" NOT NULL,
    CONSTRAINT "names.kind,exposed_name" PRIMARY KEY (kind, exposed_name),
    CONSTRAINT "names.upstream_id,kind,upstream_name" UNIQUE (upstream_id, kind, upstream_name)
);

CREATE TABLE api_keys (
    id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    prefix TEXT COLLATE "C" NOT NULL,
    hash BYTEA NOT NULL,
    previous_hash BYTEA,
    previous_until BIGINT,
    enabled BIGINT NOT NULL,
    expires_at BIGINT,
    mode TEXT COLLATE "C" NOT NULL,
    upstream_ids TEXT COLLATE "C",
    allowed_cidrs TEXT COLLATE "C" NOT NULL,
    rate_limit BIGINT,
    rate_window_s BIGINT,
    quota_per_day BIGINT,
    quota_per_month BIGINT,
    last_used_at BIGINT,
    last_ip TEXT COLLATE "C",
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT "api_keys.id" PRIMARY KEY (id),
    CONSTRAINT "api_keys.name" UNIQUE (name),
    CONSTRAINT "api_keys.hash" UNIQUE (hash)
);

CREATE TABLE admin_users (
    id TEXT COLLATE "C" NOT NULL,
    username TEXT COLLATE "C" NOT NULL,
    password_hash TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT "admin_users.id" PRIMARY KEY (id),
    CONSTRAINT "admin_users.username" UNIQUE (username)
);

CREATE TABLE admin_tokens (
    id TEXT COLLATE "C" NOT NULL,
    admin_id TEXT COLLATE "C" NOT NULL REFERENCES admin_users (id) ON DELETE CASCADE,
    issued_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    address TEXT COLLATE "C",
    user_agent TEXT COLLATE "C" NOT NULL,
    CONSTRAINT "admin_tokens.id" PRIMARY KEY (id)
);
CREATE INDEX admin_tokens_of_admin ON admin_tokens (admin_id);

CREATE TABLE settings (
    id BIGINT NOT NULL CONSTRAINT "settings.one" CHECK (id = 1),
    document TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT "settings.id" PRIMARY KEY (id)
);

CREATE TABLE audit_events (
    seq BIGINT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    actor_kind TEXT COLLATE "C" NOT NULL,
    actor_id TEXT COLLATE "C",
    actor_name TEXT COLLATE "C",
    address TEXT COLLATE "C",
    user_agent TEXT COLLATE "C",
    action TEXT COLLATE "C" NOT NULL,
    target_kind TEXT COLLATE "C" NOT NULL,
    target_id TEXT COLLATE "C",
    target_name TEXT COLLATE "C",
    diff TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C",
    outcome TEXT COLLATE "C" NOT NULL,
    hash BYTEA NOT NULL,
    CONSTRAINT "audit_events.seq" PRIMARY KEY (seq),
    CONSTRAINT "audit_events.id" UNIQUE (id)
);

CREATE TABLE audit_head (
    id BIGINT NOT NULL CONSTRAINT "audit_head.one" CHECK (id = 1),
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    CONSTRAINT "audit_head.id" PRIMARY KEY (id)
);

CREATE TABLE leases (
    name TEXT COLLATE "C" NOT NULL,
    holder TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL,
    CONSTRAINT "leases.name" PRIMARY KEY (name)
);

CREATE TABLE sessions (
    rid TEXT COLLATE "C" NOT NULL,
    ended BIGINT NOT NULL,
    log_level TEXT COLLATE "C",
    expires_at BIGINT NOT NULL,
    CONSTRAINT "sessions.rid" PRIMARY KEY (rid)
);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
