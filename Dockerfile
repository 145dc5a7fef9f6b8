# The images of agenttask: `controller` (no torch), `runner` (no kopf, no torch), `runner-torch` (runner with PyTorch).
#
#   docker build --target runner --tag agenttask/runner .        (or: make images)
#
# BASE is any Debian-like image with python3 >= 3.11, venv and pip. The package index is the builder's own; give another
# with --build-arg PIP_INDEX_URL=... : it is used in build stages only, so neither an image nor its history keeps it.
# Layers go from what changes least to what changes most: base, packages (by hash), our own wheel (less than 1 MB).
ARG BASE=python:3.13-slim-trixie

# ---- what the final images share: the user and the environment
# hadolint ignore=DL3006
FROM ${BASE} AS runtime
# A name for the uid: libraries that ask for the user's name fail on a uid without one.
RUN echo 'agenttask:x:10001:10001:agenttask:/workspace:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'agenttask:x:10001:' >> /etc/group \
 && install -d -o 10001 -g 10001 /workspace
ENV PATH=/opt/agenttask/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /workspace

# ---- build stages: nothing but /opt/agenttask leaves them; bytecode is made here, since a read-only root takes none later
# hadolint ignore=DL3006
FROM ${BASE} AS build
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1
RUN python3 -m venv --without-pip /opt/agenttask

FROM build AS controller-packages
COPY requirements/controller.txt /tmp/
RUN python3 -m pip --python /opt/agenttask/bin/python install --require-hashes -r /tmp/controller.txt \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/agenttask/lib

FROM build AS runner-packages
COPY requirements/runner.txt /tmp/
RUN python3 -m pip --python /opt/agenttask/bin/python install --require-hashes -r /tmp/runner.txt \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/agenttask/lib

FROM build AS runner-torch-packages
COPY requirements/runner-torch.txt /tmp/
RUN python3 -m pip --python /opt/agenttask/bin/python install --require-hashes -r /tmp/runner-torch.txt \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/agenttask/lib

# Our own package, as a layer over any of the three.
FROM build AS agenttask
COPY requirements/build.txt /tmp/
RUN python3 -m venv /tmp/build && /tmp/build/bin/pip install --require-hashes -r /tmp/build.txt
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY plugins plugins
COPY crds crds
RUN /tmp/build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /tmp/wheel . \
 && python3 -m pip --python /opt/agenttask/bin/python install --no-deps --no-index /tmp/wheel/*.whl \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/agenttask/lib

# ---- the images
FROM runtime AS controller
COPY --from=controller-packages /opt/agenttask /opt/agenttask
COPY --from=agenttask /opt/agenttask /opt/agenttask
USER 10001:10001
ENTRYPOINT ["agenttask-controller"]
LABEL org.opencontainers.image.title="agenttask controller" \
      org.opencontainers.image.description="Runs AgentTasks to completion on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM runtime AS runner
COPY --from=runner-packages /opt/agenttask /opt/agenttask
COPY --from=agenttask /opt/agenttask /opt/agenttask
USER 10001:10001
ENTRYPOINT ["agenttask-runner"]
LABEL org.opencontainers.image.title="agenttask runner" \
      org.opencontainers.image.description="Runs the steps of one AgentTask in its pod" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM runtime AS runner-torch
COPY --from=runner-torch-packages /opt/agenttask /opt/agenttask
COPY --from=agenttask /opt/agenttask /opt/agenttask
USER 10001:10001
ENTRYPOINT ["agenttask-runner"]
LABEL org.opencontainers.image.title="agenttask runner with PyTorch" \
      org.opencontainers.image.description="Runs the steps of one AgentTask in its pod, local models included" \
      org.opencontainers.image.licenses="Apache-2.0"
