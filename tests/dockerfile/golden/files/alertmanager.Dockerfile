ARG ARCH="amd64"
ARG OS="linux"
FROM quay.io/prometheus/busybox-${OS}-${ARCH}:latest
LABEL maintainer="Alerting people <alerts@example.org>"
LABEL org.opencontainers.image.source="https://example.org/alerting" \
      org.opencontainers.image.title="alerting"

ARG ARCH="amd64"
ARG OS="linux"
COPY .build/${OS}-${ARCH}/amtool       /bin/amtool
COPY .build/${OS}-${ARCH}/server       /bin/server
COPY examples/simple.yml               /etc/server/server.yml

RUN mkdir -p /data && \
    chown -R nobody:nobody etc/server /data

USER       nobody
EXPOSE     9093
VOLUME     [ "/data" ]
WORKDIR    /data
ENTRYPOINT [ "/bin/server" ]
CMD        [ "--config.file=/etc/server/server.yml", \
             "--storage.path=/data" ]
