# The release of rust-toolchain.toml.
ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-slim-bookworm AS build
WORKDIR /src
# No path of the builder in the program.
ENV RUSTFLAGS=--remap-path-prefix=/usr/local/cargo/registry/src=crates
ENV CFLAGS=-ffile-prefix-map=/usr/local/cargo/registry/src=crates

# Cargo's profile. scripts/container-check takes `quick`: unoptimised, and built minutes earlier.
ARG PROFILE=release

# Dependencies change seldom and sources often. This layer holds the built dependencies, made with a stand-in for the
# sources, and is made anew only when a manifest or the lock file changes.
COPY .cargo/ .cargo/
COPY Cargo.toml Cargo.lock ./
COPY crates/lease-model/Cargo.toml crates/lease-model/
COPY crates/pagerduty-sandbox/Cargo.toml crates/pagerduty-sandbox/
COPY crates/sentry-twin/Cargo.toml crates/sentry-twin/
COPY crates/temporary-postgres/Cargo.toml crates/temporary-postgres/
RUN mkdir -p src benches/webhook && for crate in crates/*; do mkdir "$crate/src" && echo '//! Stand-in.' >"$crate/src/lib.rs"; done \
    && echo '//! Stand-in.' | tee src/lib.rs >src/main.rs \
    && echo 'fn main() {}' | tee -a src/main.rs >benches/webhook/main.rs \
    && cargo build --profile "$PROFILE" --locked

COPY build.rs ./
COPY crates/pagerduty-sandbox/src/ crates/pagerduty-sandbox/src/
COPY src/ src/
COPY migrations/ migrations/
COPY docs/openapi.json docs/
# Which commit this is, for --version: the checkout itself is not here. Behind the dependencies, which it does not change.
ARG SOURCE_COMMIT=
# Cargo goes by the times of the files, and those of a checkout can be older than the stand-in's.
RUN touch build.rs src/lib.rs src/main.rs crates/pagerduty-sandbox/src/lib.rs \
    && SOURCE_COMMIT=${SOURCE_COMMIT} cargo build --profile "$PROFILE" --locked

COPY deploy/rootfs deploy/
COPY scripts/third-party scripts/
COPY LICENSE-APACHE LICENSE-MIT ./
RUN deploy/rootfs "target/$PROFILE/sentry-pagerduty-bridge" image && scripts/third-party >THIRD-PARTY.txt \
    && install -D -m 0644 -t image/system/usr/share/doc/sentry-pagerduty-bridge LICENSE-APACHE LICENSE-MIT THIRD-PARTY.txt

FROM scratch
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="sentry-pagerduty-bridge" \
      org.opencontainers.image.description="Receives Sentry's webhooks, commits each alert to a durable queue, and delivers it to PagerDuty" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"

# Everything belongs to root but /data, the only place the program writes to. Each copies a folder's contents, so that
# the modes of what lies inside arrive as deploy/rootfs set them.
COPY --from=build /src/image/system/ /
COPY --from=build --chown=65532:65532 /src/image/state/ /

ENV BRIDGE_DATABASE_URL=sqlite:/data/bridge.db
USER 65532:65532
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/local/bin/sentry-pagerduty-bridge", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/sentry-pagerduty-bridge"]
CMD ["serve"]
