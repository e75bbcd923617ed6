# One file for every container of the cloud: `control` (web, streams, control worker, beat) and `node` (a compute
# node, which has no Django in it). The locks and the entry points are those of the embedded mode.
FROM debian:12-slim AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin pileus \
    && python3 -m venv /opt/pileus/venv
ENV PATH=/opt/pileus/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LC_ALL=C.UTF-8 \
    PYTHONUNBUFFERED=1
WORKDIR /opt/pileus/source

FROM base AS control
RUN apt-get update \
    && apt-get install --yes --no-install-recommends e2fsprogs gpgv lz4 zstd \
    && rm -rf /var/lib/apt/lists/*
COPY requirements-control.lock ./
RUN pip install --no-cache-dir --require-hashes --no-deps --only-binary :all: --requirement requirements-control.lock
COPY manage.py ./
COPY agent/ agent/
COPY cloud/ cloud/
COPY compute/ compute/
COPY storage/ storage/
COPY network/ network/
COPY images/ images/
COPY docs/api.md docs/images.md docs/instances.md docs/networks.md docs/operating.md docs/projects.md docs/storage.md docs/
ENV PILEUS_STATIC_ROOT=/opt/pileus/static
# Strict: without the npm registry the build fails, rather than keep a dashboard without terminal, screen and live pages.
RUN python manage.py collectstatic --no-input \
    && python manage.py fetch_assets --strict \
    && install --directory --owner pileus --group pileus /run/pileus /var/lib/pileus/images \
        /var/lib/pileus/backups
USER pileus
CMD ["gunicorn", "--config", "python:cloud.web", "cloud.wsgi:application"]

FROM base AS node
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnftables1 ovmf qemu-system-x86 qemu-utils \
    && rm -rf /var/lib/apt/lists/*
COPY requirements-agent.lock ./
RUN pip install --no-cache-dir --require-hashes --no-deps --only-binary :all: --requirement requirements-agent.lock
COPY agent/ agent/
COPY compute/__init__.py compute/multipart.py compute/ssh.py compute/
COPY compute/agent/ compute/agent/
COPY storage/__init__.py storage/hardware.py storage/tickets.py storage/traits.py storage/uefi.py storage/
COPY storage/agent/ storage/agent/
COPY network/__init__.py network/__init__.py
COPY network/agent/ network/agent/
RUN printf '#!/opt/pileus/venv/bin/python\nimport sys\n\nsys.path.insert(0, "/opt/pileus/source")\n\nfrom agent.cli import main\n\nsys.exit(main())\n' \
    > /opt/pileus/venv/bin/pileus-agent && chmod 755 /opt/pileus/venv/bin/pileus-agent
# The first process outlives the worker, and with it do the machines.
ENTRYPOINT ["python", "-m", "agent.container"]
CMD ["pileus-agent network", "pileus-agent worker", "pileus-agent node"]
