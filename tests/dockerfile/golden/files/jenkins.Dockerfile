ARG RHEL_TAG=9
FROM eclipse-temurin:21-jdk AS jre-build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

COPY jdk-download.sh \
     jdk-download-url.sh \
     /usr/bin/

RUN case "$(jlink --version 2>&1)" in \
      "17."*) set -- "--compress=2" ;; \
      *) set -- "--compress=zip-6" ;; \
    esac; \
    jlink \
      --strip-java-debug-attributes \
      "$1" \
      --add-modules ALL-MODULE-PATH \
      --output /javaruntime

FROM registry.example.org/ubi${RHEL_TAG}/ubi AS controller
ENV LANG C.UTF-8
ARG TARGETARCH
ARG COMMIT_SHA
ARG user=jenkins
ARG group=jenkins
ARG uid=1000
ARG gid=1000
ARG http_port=8080
ARG agent_port=50000
ARG JENKINS_HOME=/var/jenkins_home
ARG REF=/usr/share/jenkins/ref

ENV JENKINS_HOME=$JENKINS_HOME
ENV JENKINS_SLAVE_AGENT_PORT ${agent_port}
ENV REF=$REF

RUN mkdir -p "$JENKINS_HOME" \
  && chown ${uid}:${gid} "$JENKINS_HOME" \
  && groupadd -g ${gid} ${group} \
  && useradd -N -d "$JENKINS_HOME" -u ${uid} -g ${gid} -l -m -s /bin/bash ${user}

# The home is a volume, so configuration survives
VOLUME $JENKINS_HOME

RUN mkdir -p ${REF}/init.groovy.d

ARG JENKINS_VERSION
ENV JENKINS_VERSION=${JENKINS_VERSION:-2.504}
ARG JENKINS_SHA=0123456789abcdef
ARG JENKINS_URL=https://example.org/jenkins-war/${JENKINS_VERSION}/jenkins-war-${JENKINS_VERSION}.war

RUN curl -fsSL ${JENKINS_URL} -o /usr/share/jenkins/jenkins.war \
  && echo "${JENKINS_SHA}  /usr/share/jenkins/jenkins.war" >/tmp/jenkins_sha \
  && sha256sum -c --strict /tmp/jenkins_sha

EXPOSE ${http_port}
EXPOSE ${agent_port}

ENV COPY_REFERENCE_FILE_LOG=$JENKINS_HOME/copy_reference_file.log
ENV JAVA_HOME=/opt/java/openjdk
ENV PATH="${JAVA_HOME}/bin:${PATH}"
COPY --from=jre-build /javaruntime $JAVA_HOME

USER ${user}

COPY jenkins-support /usr/local/bin/jenkins-support
ENTRYPOINT ["/usr/bin/tini", "--", "/usr/local/bin/jenkins.sh"]

# metadata labels
LABEL \
    org.opencontainers.image.vendor="Example project" \
    org.opencontainers.image.version="${JENKINS_VERSION}" \
    org.opencontainers.image.revision="${COMMIT_SHA}"
