# The repository with all that is needed on one GPU or none; built with the network once, run without it.
# docker build -t jvlm . ; see docs/hospital.md
FROM python:3.11-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 DS_BUILD_OPS=0
WORKDIR /opt/jvlm
COPY . .
RUN pip install -c constraints.txt '.[app,serve,medical,parquet,quant]' \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin jvlm \
    && mkdir /work && chown jvlm /work

# nothing is looked up or reported from here on
ENV HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 \
    RAY_USAGE_STATS_ENABLED=0 WANDB_MODE=offline STREAMLIT_BROWSER_GATHER_USAGE_STATS=false PYTHONUNBUFFERED=1

USER 10001
WORKDIR /work
EXPOSE 8501
# of the app; where another command runs: docker run --no-healthcheck
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
ENTRYPOINT ["jvlm"]
CMD ["app", "runs/medical-lora/model", "--address", "0.0.0.0"]
