# The program `longhaul` in an image of its own: workers, schedulers, migrations and commands.
#
#   docker build -t longhaul .
#   docker run --rm -e DATABASE_URL=postgres://… longhaul doctor
#
# Programs that handler `command` runs have to be in the image: build one FROM this one and add them.

FROM rust:1.92-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p longhaul-ops --bin longhaul && cp target/release/longhaul /usr/local/bin/longhaul

FROM debian:bookworm-slim
# Authorities for TLS, and an init that passes signals on and buries children.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates tini && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/longhaul longhaul
COPY --from=build /usr/local/bin/longhaul /usr/local/bin/longhaul
USER 10001
WORKDIR /var/lib/longhaul
ENTRYPOINT ["/usr/bin/tini", "--", "longhaul"]
CMD ["worker"]
# A worker stops in good order at SIGTERM, within --grace.
STOPSIGNAL SIGTERM
