# The search service, on CPUs. From the root of a clone:
#   docker build -f launch/docker/serve.Dockerfile -t smim-serve .
#   docker run --read-only --tmpfs /tmp -v "$PWD/indexes:/indexes:ro" -p 8000:8000 smim-serve --index /indexes/reviews
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
COPY constraints.txt /tmp/constraints.txt
# The CPU build of torch: PyPI's brings several GB of CUDA.
RUN grep '^torch==' /tmp/constraints.txt > /tmp/torch.txt && \
    pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu --requirement /tmp/torch.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir -c /tmp/constraints.txt "$(ls /wheels/*.whl)[serve]" && \
    useradd --create-home --uid 1000 smim
USER 1000
WORKDIR /home/smim
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
ENTRYPOINT ["smim", "serve", "--host", "0.0.0.0", "--port", "8000"]
