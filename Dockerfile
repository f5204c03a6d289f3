# Two images:
#
#     docker build --target outrider -t outrider .            without Python, for integrations without handlers
#     docker build --target handlers -t outrider:handlers .   with Python and litellm, for custom_llm_config
#
# Mount the configuration at /etc/outrider/config.toml, and handlers at /opt/custom_llms:
#
#     docker run -p 4010:4010 -e OUTRIDER_SERVER__LISTEN=0.0.0.0:4010 \
#       -v ./config.toml:/etc/outrider/config.toml:ro -v ./custom_llms:/opt/custom_llms:ro outrider:handlers
#
# Without OUTRIDER_SERVER__LISTEN it listens on 127.0.0.1: right for a sidecar, whose pod shares the loopback.
# Behind a registry of your own: --build-arg RUST=registry.corp.example/rust:1.95-bookworm, and so on.
# All stages have Debian 12's C library, which the program is linked to.

ARG RUST=rust:1.95-bookworm
ARG PYTHON=python:3.12-slim-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12:nonroot

# The program. The caches outlive a build, so that a change compiles only what it concerns.
FROM ${RUST} AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY benches benches
COPY tests tests
COPY handlers handlers
COPY src src
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --locked --profile dist --bin outrider && cp target/dist/outrider /outrider

# litellm and what it needs, compiled: an interpreter that may not write starts in a third of the time so.
FROM ${PYTHON} AS packages
COPY handlers/requirements.txt /requirements.txt
RUN python -m venv /opt/python && \
    /opt/python/bin/python -m pip install --no-cache-dir --disable-pip-version-check --compile -r /requirements.txt

FROM ${PYTHON} AS handlers
RUN groupadd --gid 65532 outrider && \
    useradd --uid 65532 --gid 65532 --create-home --shell /usr/sbin/nologin outrider && \
    mkdir -p /etc/outrider /opt/custom_llms
COPY --from=packages /opt/python /opt/python
COPY --from=build /outrider /usr/local/bin/outrider
# The allocator keeps more pieces at hand than seven of a size: see `docs/performance.md`, "Many requests at once".
ENV PATH=/opt/python/bin:/usr/local/bin:/usr/bin:/bin \
    GLIBC_TUNABLES=glibc.malloc.tcache_count=127 \
    OUTRIDER_CONFIG=/etc/outrider/config.toml \
    GALILEO_CUSTOM_LLMS_ENABLED=true \
    GALILEO_CUSTOM_LLMS_DIRECTORY=/opt/custom_llms
USER 65532:65532
# 4010: callers. 4011: admin. 4012: admin.metrics_listen.
EXPOSE 4010 4011 4012
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s CMD ["/usr/local/bin/outrider", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/outrider"]

# The last stage is what `docker build .` makes.
FROM ${RUNTIME} AS outrider
COPY --from=build /outrider /usr/local/bin/outrider
# As above.
ENV GLIBC_TUNABLES=glibc.malloc.tcache_count=127 \
    OUTRIDER_CONFIG=/etc/outrider/config.toml
USER 65532:65532
EXPOSE 4010 4011 4012
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s CMD ["/usr/local/bin/outrider", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/outrider"]
