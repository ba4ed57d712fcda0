# Countersign's service. Build and run: docker compose up --build
#
# torch from the default package index brings GPU libraries of several gigabytes. For a small CPU image name an index that has
# CPU builds of torch 2.13.0:    docker build --build-arg TORCH_INDEX=URL .

FROM python:3.11-slim AS build
ARG TORCH_INDEX=""
WORKDIR /src
RUN python -m venv /opt/countersign
# Dependencies first: a change of the code then rebuilds only the last layer.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
    && /opt/countersign/bin/pip install --no-cache-dir --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
       --requirement requirements.txt
COPY README.md LICENSE NOTICE ./
COPY watermark watermark
COPY models models
COPY service service
RUN /opt/countersign/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin countersign \
    && install -d -o countersign -g countersign -m 0700 /data \
    && install -d -o countersign -g countersign -m 0755 /cache
COPY --from=build /opt/countersign /opt/countersign
# The root file system may be read-only: what is written goes to /data (keys), /cache (the converted model) and /tmp.
# The container listens on all its addresses; who reaches it is decided by the ports you publish. The API has no
# authentication yet: publish to loopback, or put something in front of it that checks who may use it.
ENV PATH=/opt/countersign/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    COUNTERSIGN_HOME=/data \
    COUNTERSIGN_CACHE=/cache \
    COUNTERSIGN_HOST=0.0.0.0 \
    COUNTERSIGN_PORT=8000 \
    COUNTERSIGN_ALLOW_REMOTE=true \
    COUNTERSIGN_LOG_FORMAT=json \
    HF_HOME=/cache/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib
USER 10001
VOLUME ["/data", "/cache"]
EXPOSE 8000
# The first start converts the model, which takes minutes.
HEALTHCHECK --interval=10s --timeout=3s --start-period=300s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
STOPSIGNAL SIGTERM
CMD ["countersign", "serve"]
