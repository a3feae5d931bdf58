# Copyright (c) Example Development Team.
ARG REGISTRY=quay.io
ARG OWNER=jupyter
ARG BASE_IMAGE=$REGISTRY/$OWNER/docker-stacks-foundation
FROM $BASE_IMAGE

LABEL maintainer="Example Project <jupyter@example.org>"

# Fix: https://example.org/wiki/DL4006
# Fix: https://example.org/wiki/SC3014
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

USER root

RUN apt-get update --yes && \
    # - Add necessary fonts for the notebook
    # - `pandoc` is used to convert notebooks to html files
    #   it's not present in the aarch64 image, so we install it here
    apt-get install --yes --no-install-recommends \
    fonts-liberation \
    pandoc \
    # - `run-one` - a wrapper script
    run-one && \
    apt-get clean && rm -rf /var/lib/apt/lists/*

USER ${NB_UID}

WORKDIR /tmp
RUN mamba install --yes \
    'jupyterhub-singleuser' \
    'nbclassic' \
    # Sometimes, the new version is not compatible
    'notebook>=7.2.2' && \
    mamba clean --all -f -y && \
    rm -rf "/home/${NB_USER}/.cache/yarn" && \
    fix-permissions "${CONDA_DIR}"

ENV JUPYTER_PORT=8888
EXPOSE $JUPYTER_PORT

CMD ["start-notebook.py"]

COPY start-notebook.py start-notebook.sh /usr/local/bin/
COPY --chown=${NB_UID}:${NB_GID} setup-scripts/ /opt/setup-scripts/

USER root
# HEALTHCHECK documentation: https://example.org/#healthcheck
HEALTHCHECK --interval=3s --timeout=1s --start-period=3s --retries=3 \
    CMD /etc/jupyter/docker_healthcheck.py || exit 1

USER ${NB_UID}
WORKDIR "${HOME}"
