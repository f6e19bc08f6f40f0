-- The XiaoZhi endpoints that are dialled, and how those that are held fare. The same tables, columns and
-- constraints as in ../postgres.

-- `url` is sealed: the token in it is all that it takes to stand in for the agent. Without a reference to the
-- key: an endpoint outlives it, and says that it has none.
CREATE TABLE xiaozhi_endpoints (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    tools_max INTEGER NOT NULL,
    description_max INTEGER NOT NULL,
    deadline_s INTEGER NOT NULL,
    reconnects INTEGER NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT "xiaozhi_endpoints.id" PRIMARY KEY (id),
    CONSTRAINT "xiaozhi_endpoints.name" UNIQUE (name)
) STRICT;

-- What the replica that holds an endpoint last said of it. It counts only while that replica has the lease.
CREATE TABLE xiaozhi_states (
    endpoint_id TEXT NOT NULL REFERENCES xiaozhi_endpoints (id) ON DELETE CASCADE,
    holder TEXT NOT NULL,
    state TEXT NOT NULL,
    since INTEGER NOT NULL,
    fault TEXT,
    close_code INTEGER,
    last_error TEXT,
    next_attempt_at INTEGER,
    tools_shown INTEGER,
    tools_total INTEGER,
    CONSTRAINT "xiaozhi_states.endpoint_id" PRIMARY KEY (endpoint_id)
) STRICT;
