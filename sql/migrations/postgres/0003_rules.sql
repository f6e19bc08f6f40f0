-- Who sees what, and under which name. The same tables, columns and constraints as in ../sqlite.

CREATE TABLE alias_rules (
    id TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    upstream_id TEXT COLLATE "C" REFERENCES upstreams (id) ON DELETE CASCADE,
    key_id TEXT COLLATE "C" REFERENCES api_keys (id) ON DELETE CASCADE,
    pattern TEXT COLLATE "C" NOT NULL,
    is_regex BIGINT NOT NULL,
    match_on TEXT COLLATE "C" NOT NULL,
    target_name TEXT COLLATE "C",
    target_description TEXT COLLATE "C",
    enabled BIGINT NOT NULL,
    sort_order BIGINT NOT NULL,
    kinds TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT "alias_rules.id" PRIMARY KEY (id)
);
CREATE INDEX alias_rules_of_upstream ON alias_rules (upstream_id);
CREATE INDEX alias_rules_of_key ON alias_rules (key_id);
CREATE INDEX alias_rules_of_all ON alias_rules (owner) WHERE owner = 'all';

CREATE TABLE filter_rules (
    id TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    upstream_id TEXT COLLATE "C" REFERENCES upstreams (id) ON DELETE CASCADE,
    key_id TEXT COLLATE "C" REFERENCES api_keys (id) ON DELETE CASCADE,
    pattern TEXT COLLATE "C" NOT NULL,
    is_regex BIGINT NOT NULL,
    match_on TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    enabled BIGINT NOT NULL,
    sort_order BIGINT NOT NULL,
    kinds TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT "filter_rules.id" PRIMARY KEY (id)
);
CREATE INDEX filter_rules_of_upstream ON filter_rules (upstream_id);
CREATE INDEX filter_rules_of_key ON filter_rules (key_id);
CREATE INDEX filter_rules_of_all ON filter_rules (owner) WHERE owner = 'all';
