# syntax=docker/dockerfile:1
#
# docker build .                  the gateway alone, on distroless: for upstreams that are dialled
# docker build --target full .    with Node, Python and uv, for upstreams that are started (npx, uvx)
#
# Both run as a user without rights, on a root that may be read-only: docker run --read-only --tmpfs /tmp -v data:/data

# The console.
FROM node:20-bookworm-slim AS console
WORKDIR /build/web
COPY web/package.json web/package-lock.json web/.npmrc ./
RUN npm ci --ignore-scripts
COPY admin/openapi.json /build/admin/openapi.json
COPY web ./
RUN npm run build

# The gateway, with the console inside. Pingora needs cmake.
FROM rust:1.95-bookworm AS gateway
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY sql sql
COPY proxy proxy
COPY admin admin
COPY src src
COPY benches benches
COPY --from=console /build/web/dist web/dist
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    MPG_RELEASE=1 cargo build --release --locked --bin mcp-proxy-gateway \
    && cp target/release/mcp-proxy-gateway /mcp-proxy-gateway \
    && mkdir /data

FROM ghcr.io/astral-sh/uv:0.13.8 AS uv

# What upstreams over stdio are started with. Their packages are fetched into /data, the one place that can be written.
FROM node:20-bookworm-slim AS full
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY --from=uv /uv /uvx /usr/local/bin/
COPY --from=gateway /mcp-proxy-gateway /mcp-proxy-gateway
COPY --from=gateway --chown=65532:65532 /data /data
ENV MPG_LISTEN=0.0.0.0:8080 MPG_DATA_DIR=/data HOME=/data
USER 65532:65532
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/mcp-proxy-gateway", "healthcheck"]
ENTRYPOINT ["/mcp-proxy-gateway"]

# The last stage is the default: nothing but the binary and its C library.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=gateway /mcp-proxy-gateway /mcp-proxy-gateway
COPY --from=gateway --chown=65532:65532 /data /data
ENV MPG_LISTEN=0.0.0.0:8080 MPG_DATA_DIR=/data
USER 65532:65532
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/mcp-proxy-gateway", "healthcheck"]
ENTRYPOINT ["/mcp-proxy-gateway"]
