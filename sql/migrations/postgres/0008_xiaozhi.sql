-- The XiaoZhi endpoints that are dialled, and how those that are held fare. The same tables, columns and
-- constraints as in ../sqlite.

-- `url` is sealed: the token in it is all that it takes to stand in for the agent. Without a reference to the
-- key: an endpoint outlives it, and says that it has none.
CREATE TABLE xiaozhi_endpoints (
    id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    url TEXT COLLATE "C" NOT NULL,
    enabled BIGINT NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    mode TEXT COLLATE "C" NOT NULL,
    tools_max BIGINT NOT NULL,
    description_max BIGINT NOT NULL,
    deadline_s BIGINT NOT NULL,
    reconnects BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT "xiaozhi_endpoints.id" PRIMARY KEY (id),
    CONSTRAINT "xiaozhi_endpoints.name" UNIQUE (name)
);

-- What the replica that holds an endpoint last said of it. It counts only while that replica has the lease.
CREATE TABLE xiaozhi_states (
    endpoint_id TEXT COLLATE "C" NOT NULL REFERENCES xiaozhi_endpoints (id) ON DELETE CASCADE,
    holder TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    fault TEXT COLLATE "C",
    close_code BIGINT,
    last_error TEXT COLLATE "C",
    next_attempt_at BIGINT,
    tools_shown BIGINT,
    tools_total BIGINT,
    CONSTRAINT "xiaozhi_states.endpoint_id" PRIMARY KEY (endpoint_id)
);
