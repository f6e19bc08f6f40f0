-- What authorises the gateway at upstreams. The same tables, columns and constraints as in ../sqlite.

-- Who the gateway is to an authorization server; `client` is sealed.
CREATE TABLE oauth_clients (
    upstream_id TEXT COLLATE "C" NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    issuer TEXT COLLATE "C" NOT NULL,
    redirect_uri TEXT COLLATE "C" NOT NULL,
    client TEXT COLLATE "C" NOT NULL,
    CONSTRAINT "oauth_clients.upstream_id,issuer" PRIMARY KEY (upstream_id, issuer)
);

-- What an authorization server granted; `tokens` is sealed.
CREATE TABLE oauth_grants (
    upstream_id TEXT COLLATE "C" NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    issuer TEXT COLLATE "C" NOT NULL,
    origin TEXT COLLATE "C" NOT NULL,
    scopes TEXT COLLATE "C" NOT NULL,
    tokens TEXT COLLATE "C" NOT NULL,
    received_at BIGINT NOT NULL,
    expires_at BIGINT,
    authorized_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT "oauth_grants.upstream_id" PRIMARY KEY (upstream_id)
);

-- Authorisations that an admin has begun; `state` is a hash, `document` is sealed.
CREATE TABLE oauth_authorizations (
    state TEXT COLLATE "C" NOT NULL,
    upstream_id TEXT COLLATE "C" NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    session_id TEXT COLLATE "C" NOT NULL,
    document TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL,
    CONSTRAINT "oauth_authorizations.state" PRIMARY KEY (state)
);
