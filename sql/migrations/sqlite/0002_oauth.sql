-- What authorises the gateway at upstreams. The same tables, columns and constraints as in ../postgres.

-- Who the gateway is to an authorization server; `client` is sealed.
CREATE TABLE oauth_clients (
    upstream_id TEXT NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    issuer TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    client TEXT NOT NULL,
    CONSTRAINT "oauth_clients.upstream_id,issuer" PRIMARY KEY (upstream_id, issuer)
) STRICT;

-- What an authorization server granted; `tokens` is sealed.
CREATE TABLE oauth_grants (
    upstream_id TEXT NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    issuer TEXT NOT NULL,
    origin TEXT NOT NULL,
    scopes TEXT NOT NULL,
    tokens TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    expires_at INTEGER,
    authorized_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    CONSTRAINT "oauth_grants.upstream_id" PRIMARY KEY (upstream_id)
) STRICT;

-- Authorisations that an admin has begun; `state` is a hash, `document` is sealed.
CREATE TABLE oauth_authorizations (
    state TEXT NOT NULL,
    upstream_id TEXT NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    session_id TEXT NOT NULL,
    document TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    CONSTRAINT "oauth_authorizations.state" PRIMARY KEY (state)
) STRICT;
