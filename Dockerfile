# Countersign's service. With PostgreSQL beside it: docker-compose.yml. How to run it: docs/service/deployment.md
#
#   docker build .                               on the CPU (target cpu)
#   docker build --target cuda .                 on an NVIDIA GPU, with the host's NVIDIA container toolkit
#   docker build --build-arg EXTRAS="ray redis tracing" .    for Ray Serve: docs/scale/serving.md
#
# torch from the default package index brings GPU libraries of several gigabytes, which only the target cuda needs. For a small CPU
# image name an index that has CPU builds of the torch in pyproject.toml:    docker build --build-arg TORCH_INDEX=URL .

FROM python:3.11-slim AS build
ARG TORCH_INDEX=""
ARG EXTRAS="redis tracing"
WORKDIR /src
RUN python -m venv /opt/countersign
# Dependencies first: a change of the code then rebuilds only the last layer. EXTRAS are among them, because nothing can be installed
# into a finished image whose root is read-only.
COPY pyproject.toml constraints.txt ./
RUN python -c "import os, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *(each for extra in os.environ['EXTRAS'].split() for each in p['optional-dependencies'][extra]), sep='\n')" > requirements.txt \
    && /opt/countersign/bin/pip install --no-cache-dir --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
       --requirement requirements.txt
COPY README.md LICENSE NOTICE ./
COPY watermark watermark
COPY models models
COPY service service
RUN /opt/countersign/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim AS runtime
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin countersign \
    && install -d -o countersign -g countersign -m 0700 /data \
    && install -d -o countersign -g countersign -m 0755 /cache
COPY --from=build /opt/countersign /opt/countersign
# The root file system may be read-only: what is written goes to /data (SQLite and the master key, where neither is given by the
# environment), /cache (the converted model, compiled loops) and /tmp. The container listens on all its addresses, and so asks for API keys: give it
# COUNTERSIGN_ADMIN_KEY. Who reaches it is decided by the ports that you publish.
ENV PATH=/opt/countersign/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    COUNTERSIGN_HOME=/data \
    COUNTERSIGN_CACHE=/cache \
    COUNTERSIGN_HOST=0.0.0.0 \
    COUNTERSIGN_PORT=8000 \
    COUNTERSIGN_LOG_FORMAT=json \
    HF_HOME=/cache/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib
USER 10001
VOLUME ["/data", "/cache"]
EXPOSE 8000
# Of the process, not of its readiness: an orchestrator replaces what is unhealthy, and that helps neither a model that is loading nor a
# database that is away. Whoever routes requests asks /readyz.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['COUNTERSIGN_PORT'] + '/livez', timeout=2)"]
STOPSIGNAL SIGTERM
CMD ["countersign", "serve"]

FROM runtime AS cuda
ENV COUNTERSIGN_DEVICE=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The last one is what is built when none is named.
FROM runtime AS cpu
