ARG NAMESPACE=selenium
ARG VERSION=latest
ARG BASE=base
FROM ${NAMESPACE}/${BASE}:${VERSION}
ARG AUTHORS
LABEL authors=${AUTHORS}

USER root

ENV DEBIAN_FRONTEND=noninteractive \
    DEBCONF_NONINTERACTIVE_SEEN=true

ARG TZ="UTC"
ARG UPDATE_CV=false
ENV TZ=${TZ} \
    SE_VNC_NO_PASSWORD="false" \
    SE_SCREEN_WIDTH="1920" SE_SCREEN_HEIGHT=1080 \
    LC_ALL="en_US.UTF-8"

RUN --mount=type=secret,id=SEL_PASSWD \
    if [ -n "$(cat /run/secrets/SEL_PASSWD)" ] ; then echo seluser ; fi \
  && mkdir -p ${HOME}/.vnc

RUN ln -fs /usr/share/zoneinfo/${TZ} /etc/localtime && \
    dpkg-reconfigure -f noninteractive tzdata && \
    cat /etc/timezone


HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --start-interval=500ms --retries=5 CMD [ "/opt/bin/check-grid.sh", "--host", "0.0.0.0" ]

COPY --chown="${SEL_UID}:${SEL_GID}" start-*.sh \
      check-grid.sh generate_[a-z]*.py /opt/bin/
COPY ["conf file.toml", "/opt/selenium/"]

USER ${SEL_UID}:${SEL_GID}
EXPOSE 4444/tcp 5900 7900-7910/udp
CMD /opt/bin/start.sh
