-- Who sees what, and under which name. The same tables, columns and constraints as in ../postgres.

CREATE TABLE alias_rules (
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    upstream_id TEXT REFERENCES upstreams (id) ON DELETE CASCADE,
    key_id TEXT REFERENCES api_keys (id) ON DELETE CASCADE,
    pattern TEXT NOT NULL,
    is_regex INTEGER NOT NULL,
    match_on TEXT NOT NULL,
    target_name TEXT,
    target_description TEXT,
    enabled INTEGER NOT NULL,
    sort_order INTEGER NOT NULL,
    kinds TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT "alias_rules.id" PRIMARY KEY (id)
) STRICT;
CREATE INDEX alias_rules_of_upstream ON alias_rules (upstream_id);
CREATE INDEX alias_rules_of_key ON alias_rules (key_id);
CREATE INDEX alias_rules_of_all ON alias_rules (owner) WHERE owner = 'all';

CREATE TABLE filter_rules (
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    upstream_id TEXT REFERENCES upstreams (id) ON DELETE CASCADE,
    key_id TEXT REFERENCES api_keys (id) ON DELETE CASCADE,
    pattern TEXT NOT NULL,
    is_regex INTEGER NOT NULL,
    match_on TEXT NOT NULL,
    action TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    sort_order INTEGER NOT NULL,
    kinds TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT "filter_rules.id" PRIMARY KEY (id)
) STRICT;
CREATE INDEX filter_rules_of_upstream ON filter_rules (upstream_id);
CREATE INDEX filter_rules_of_key ON filter_rules (key_id);
CREATE INDEX filter_rules_of_all ON filter_rules (owner) WHERE owner = 'all';
