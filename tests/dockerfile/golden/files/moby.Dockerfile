# syntax=docker/dockerfile:1

ARG GO_VERSION=1.26.0
ARG BASE_DEBIAN_DISTRO="bookworm"
ARG GOLANG_IMAGE="golang:${GO_VERSION}-${BASE_DEBIAN_DISTRO}"
ARG SYSTEMD="false"

FROM --platform=$BUILDPLATFORM ${GOLANG_IMAGE} AS base
RUN rm -f /etc/apt/apt.conf.d/docker-clean \
 && echo 'Binary::apt::APT::Keep-Downloaded-Packages "true";' > /etc/apt/apt.conf.d/keep-cache
ARG APT_MIRROR
RUN test -n "$APT_MIRROR" && sed -ri "s#(httpredir|deb).debian.org#${APT_MIRROR}#g" /etc/apt/sources.list || true
ENV GO111MODULE=off
RUN --mount=type=cache,sharing=locked,id=moby-criu-aptlib,target=/var/lib/apt \
    --mount=type=cache,sharing=locked,id=moby-criu-aptcache,target=/var/cache/apt \
        apt-get update && apt-get install -y --no-install-recommends file

FROM base AS criu
ADD --chmod=0644 https://example.org/criu.gpg /etc/apt/trusted.gpg.d/criu.gpg.asc

# registry
FROM base AS distribution-src
WORKDIR /usr/src/distribution
RUN git init . && git remote add origin "https://example.org/distribution.git"

FROM base AS registry-dummy
FROM base AS frozen-images
COPY contrib/download-frozen-image-v2.sh /
ARG TARGETARCH
ARG TARGETVARIANT
RUN /download-frozen-image-v2.sh /build \
        busybox:latest@sha256:95cf004f559831017cdf4628aaf1bb30133677be8702a8c5f2994629f637a209 \
        hello-world:latest@sha256:d58e752213a51785838f9eed2b7a498ffa1cb3aa7f946dda11af39286c3db9a9

FROM base AS dev-systemd-false
RUN echo 'X=1' > /etc/x
COPY --link --from=frozen-images /build/ /docker-frozen-images
COPY --link hack/dockerfile/etc/docker/  /etc/docker/
ENV PATH=/usr/local/cli:$PATH
ENV CONTAINERD_ADDRESS=/run/docker/containerd/containerd.sock
WORKDIR /go/src/example.org/docker
VOLUME /var/lib/docker
VOLUME /home/unprivilegeduser/.local/share/docker
# Wrap all commands in the "docker-in-docker" script to allow nested containers
ENTRYPOINT ["hack/dind"]

FROM dev-systemd-${SYSTEMD} AS dev-base
RUN --mount=type=bind,source=.,target=/src,ro <<EOF
	set -eu
	cp -a /src/VERSION /VERSION
	ln -sf "$(command -v sh)" /bin/x
EOF

FROM dev-base AS smoketest
RUN --network=none --security=sandbox true

FROM scratch AS binary
COPY --from=dev-base /VERSION /
