# syntax=docker/dockerfile:1


#   Copyright notice in a comment, before
#   the first argument.

ARG GO_VERSION=1.26
ARG LICENSE_FILES=".*\(Dockerfile\|\.go\|\.hcl\|\.sh\)"

FROM --platform=${BUILDPLATFORM} tonistiigi/xx:1.6 AS xx
FROM --platform=${BUILDPLATFORM} golang:${GO_VERSION}-alpine AS base
COPY --from=xx / /
RUN apk add --no-cache \
      clang \
      docker \
      file
WORKDIR /src
ENV CGO_ENABLED=0

FROM base AS build-base
COPY go.* .
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    go mod download

FROM build-base AS test
ARG CGO_ENABLED=0
ARG BUILD_TAGS
RUN --mount=type=bind,target=. \
    --mount=type=cache,target=/go/pkg/mod \
    rm -rf /tmp/coverage && \
    mkdir -p /tmp/coverage && \
    go test -tags "$BUILD_TAGS" -v $(go list  $(TAGS) ./... | grep -vE 'e2e') && \
    go tool covdata percent -i=/tmp/coverage

FROM base AS license-set
ARG LICENSE_FILES
RUN --mount=type=bind,target=.,rw \
    --mount=from=test,source=/tmp/coverage,target=/coverage \
    find . -regex "${LICENSE_FILES}" | xargs license -c 'authors' && \
    mkdir /out

FROM scratch AS binary-linux
COPY --from=license-set /out /
FROM binary-$TARGETOS AS binary
