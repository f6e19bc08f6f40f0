# syntax=docker/dockerfile:1

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
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
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

# With Node and Python, for upstreams over stdio: docker build --target full
FROM node:20-bookworm-slim AS full
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv pipx \
    && rm -rf /var/lib/apt/lists/*
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
