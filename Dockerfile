# The images of agenttask: `controller` (no torch), `runner` (no kopf, no torch), `runner-torch` (runner with PyTorch).
#
#   docker build --target runner --tag agenttask/runner .        (or: make images)
#
# BASE is any Debian-like image with python3 >= 3.11, venv and pip. The package index is the builder's own; another comes
# with --build-arg PIP_INDEX_URL=... (the image's history keeps it, as it does all build arguments), one that needs a
# password with --secret id=pip.conf,src=FILE (nothing keeps it).
# Layers go from what changes least to what changes most: base, git, packages (by hash), our own package (less than 1 MB).
# Debian's packages come from the mirror that BASE names; http_proxy and https_proxy are build arguments without being said.
ARG BASE=python:3.13-slim-trixie

# ---- our own package, built apart
# hadolint ignore=DL3006
FROM ${BASE} AS agenttask
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements/build.txt /tmp/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/agenttask \
 && python3 -m venv /tmp/build \
 && /tmp/build/bin/pip install --require-hashes -r /tmp/build.txt
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY plugins plugins
COPY crds crds
RUN /tmp/build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /tmp/wheel . \
 && python3 -m pip --python /opt/agenttask/bin/python install --no-deps --no-index --no-compile /tmp/wheel/*.whl \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/agenttask/lib

# ---- what the images share: a virtual environment, and the user. The uid has a name, since some libraries ask for it.
# hadolint ignore=DL3006
FROM ${BASE} AS environment
RUN python3 -m venv --without-pip /opt/agenttask \
 && echo 'agenttask:x:10001:10001:agenttask:/workspace:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'agenttask:x:10001:' >> /etc/group \
 && install -d -o 10001 -g 10001 /workspace
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
ARG PIP_INDEX_URL

# ---- the images. Bytecode is made here, as a read-only root takes none later. The big layer is a RUN and no COPY from a
# stage of its own: to see whether a COPY has changed, 6 GB of PyTorch would be read at each build.
FROM environment AS controller
COPY requirements/controller.txt /tmp/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m pip --python /opt/agenttask/bin/python install --no-cache-dir --no-compile --require-hashes -r /tmp/controller.txt \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/agenttask/lib
COPY --from=agenttask /opt/agenttask /opt/agenttask
ENV PATH=/opt/agenttask/bin:$PATH
WORKDIR /workspace
USER 10001:10001
ENTRYPOINT ["agenttask-controller"]
LABEL org.opencontainers.image.title="agenttask controller" \
      org.opencontainers.image.description="Runs AgentTasks to completion on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0"

# What both runners have of Debian beside the base: git, for the step kind of that name, 100 MB with its perl. The version is
# the one of the release that BASE is, with its security updates.
FROM environment AS environment-git
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      -o DPkg::Options::='--path-exclude=/usr/share/doc/*' -o DPkg::Options::='--path-exclude=/usr/share/man/*' \
      -o DPkg::Options::='--path-exclude=/usr/share/locale/*' git \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/*

FROM environment-git AS runner
COPY requirements/runner.txt /tmp/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m pip --python /opt/agenttask/bin/python install --no-cache-dir --no-compile --require-hashes -r /tmp/runner.txt \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/agenttask/lib
COPY --from=agenttask /opt/agenttask /opt/agenttask
ENV PATH=/opt/agenttask/bin:$PATH
WORKDIR /workspace
USER 10001:10001
ENTRYPOINT ["agenttask-runner"]
LABEL org.opencontainers.image.title="agenttask runner" \
      org.opencontainers.image.description="Runs the steps of one AgentTask in its pod" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM environment-git AS runner-torch
COPY requirements/runner-torch.txt /tmp/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m pip --python /opt/agenttask/bin/python install --no-cache-dir --no-compile --require-hashes -r /tmp/runner-torch.txt \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/agenttask/lib
# What the runner has besides (scripts/requirements); pip makes the bytecode of what is new, and of nothing else.
COPY requirements/runner.txt /tmp/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m pip --python /opt/agenttask/bin/python install --no-cache-dir --require-hashes -r /tmp/runner.txt
COPY --from=agenttask /opt/agenttask /opt/agenttask
ENV PATH=/opt/agenttask/bin:$PATH
WORKDIR /workspace
USER 10001:10001
ENTRYPOINT ["agenttask-runner"]
LABEL org.opencontainers.image.title="agenttask runner with PyTorch" \
      org.opencontainers.image.description="Runs the steps of one AgentTask in its pod, local models included" \
      org.opencontainers.image.licenses="Apache-2.0"
