# One target for each image: producer (the reshelf command), worker, dashboard.
#
#   docker build --target worker --build-arg VERSION=v0.1.0 -t ghcr.io/reshelf/reshelf-worker:0.1.0 .

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY LICENSE THIRD_PARTY_NOTICES.md ./
COPY producer producer
COPY worker worker
COPY dashboard dashboard
COPY shared shared
ARG VERSION=dev
ENV CGO_ENABLED=0
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    for part in producer worker dashboard; do \
      name=reshelf-$part; [ "$part" = producer ] && name=reshelf; \
      go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o "/out/$name" "./$part" || exit 1; \
    done

# ExifTool as released, not Debian's, which is years older. The npm package carries it whole, with a patch that ends it when
# its standard input ends; no install script is run. The checksum is the registry's integrity of the package, in hex:
# sha512-QmYq2JKCXRK9Uo3E3nHb0gQ6Xce2HK7wPtrHF5r+IYWyiM5WkOhiT3BesLI9lvJvPAbzjqFxQlrjXv+/cuSX/Q==
FROM node:22-bookworm-slim AS exiftool
ARG EXIFTOOL=13.59.3
ARG EXIFTOOL_SHA512=42662ad892825d12bd528dc4de71dbd2043a5dc7b61caef03edac7179afe2185b288ce5690e8624f705eb0b23d96f26f3c06f38ea171425ae35effbf72e497fd
WORKDIR /download
RUN npm pack --ignore-scripts --silent "exiftool-vendored.pl@$EXIFTOOL" \
 && echo "$EXIFTOOL_SHA512  exiftool-vendored.pl-$EXIFTOOL.tgz" | sha512sum --check --strict \
 && tar -xzf "exiftool-vendored.pl-$EXIFTOOL.tgz" \
 && mkdir -p /opt/exiftool \
 && cp -R package/bin/exiftool package/bin/lib package/bin/README package/LICENSE /opt/exiftool/ \
 && chmod -R u=rwX,go=rX /opt/exiftool && chmod 0755 /opt/exiftool/exiftool

FROM debian:12-slim AS exif
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends perl ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 65532 reshelf && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin reshelf
COPY --from=exiftool /opt/exiftool /opt/exiftool
RUN ln -s /opt/exiftool/exiftool /usr/local/bin/exiftool && exiftool -ver
COPY --from=build /src/LICENSE /src/THIRD_PARTY_NOTICES.md /usr/share/doc/reshelf/

# The command inspects on the machine it runs on as well, so it has ExifTool too.
FROM exif AS producer
LABEL org.opencontainers.image.title="reshelf" \
      org.opencontainers.image.description="The reshelf command: submits batches, shows plans and reports" \
      org.opencontainers.image.source="https://github.com/reshelf/reshelf" \
      org.opencontainers.image.licenses="GPL-3.0-or-later"
COPY --from=build /out/reshelf /usr/local/bin/reshelf
# The user has no home, so the ledger of work in the container is /var/lib/reshelf/ledger: mount /var/lib/reshelf to keep it.
RUN install -d -o 65532 -g 65532 -m 0700 /var/lib/reshelf
ENV XDG_DATA_HOME=/var/lib
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/reshelf"]

FROM exif AS worker
LABEL org.opencontainers.image.title="reshelf-worker" \
      org.opencontainers.image.description="Lists, hashes, reads the metadata of, plans and renames the objects of archives" \
      org.opencontainers.image.source="https://github.com/reshelf/reshelf" \
      org.opencontainers.image.licenses="GPL-3.0-or-later"
COPY --from=build /out/reshelf-worker /usr/local/bin/reshelf-worker
USER 65532:65532
EXPOSE 8081
HEALTHCHECK NONE
ENTRYPOINT ["/usr/local/bin/reshelf-worker"]

FROM gcr.io/distroless/static-debian12:nonroot AS dashboard
LABEL org.opencontainers.image.title="reshelf-dashboard" \
      org.opencontainers.image.description="Web pages over batches, workers and queues" \
      org.opencontainers.image.source="https://github.com/reshelf/reshelf" \
      org.opencontainers.image.licenses="GPL-3.0-or-later"
COPY --from=build /src/LICENSE /src/THIRD_PARTY_NOTICES.md /usr/share/doc/reshelf/
COPY --from=build /out/reshelf-dashboard /usr/local/bin/reshelf-dashboard
USER 65532:65532
EXPOSE 8080
HEALTHCHECK NONE
ENTRYPOINT ["/usr/local/bin/reshelf-dashboard"]
