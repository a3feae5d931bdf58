# syntax=docker/dockerfile:1

ARG GO_VERSION=1.26
ARG ALPINE_VERSION=3.22
ARG XX_VERSION=1.6.1

FROM --platform=$BUILDPLATFORM tonistiigi/xx:${XX_VERSION} AS xx
FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-alpine${ALPINE_VERSION} AS golatest

FROM golatest AS gobase
COPY --from=xx / /
RUN apk add --no-cache file git
ENV GOFLAGS=-mod=vendor
ENV CGO_ENABLED=0
WORKDIR /src

FROM gobase AS version
RUN --mount=type=bind,target=. <<'EOT'
  git rev-parse HEAD || {
    echo >&2 "Failed to get git revision"
    exit 1
  }
EOT
RUN --mount=target=. <<EOT
  set -e
  echo "-X pkg.Version=$(git describe) " | tee /tmp/.ldflags
  echo -n "$(git describe)" | tee /tmp/.version
EOT

FROM gobase AS build
ARG TARGETPLATFORM
ARG GO_EXTRA_FLAGS
RUN --mount=type=bind,target=. \
  --mount=type=cache,target=/root/.cache \
  --mount=type=cache,target=/go/pkg/mod \
  --mount=type=bind,from=version,source=/tmp/.ldflags,target=/tmp/.ldflags <<EOT
  set -e
  xx-go --wrap
  DESTDIR=/usr/bin VERSION=$(cat /tmp/.version) GO_EXTRA_LDFLAGS="-s -w" ./hack/build
EOT

FROM scratch AS binaries-unix
COPY --link --from=build /usr/bin/docker-buildx /buildx

FROM binaries-unix AS binaries-linux
FROM scratch AS binaries-windows
COPY --link --from=build /usr/bin/docker-buildx /buildx.exe

FROM binaries-$TARGETOS AS binaries
ARG BUILDKIT_SBOM_SCAN_STAGE=true
