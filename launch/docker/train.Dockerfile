# Preparation, training and evaluation, on NVIDIA GPUs or CPUs. From the root of a clone:
#   docker build -f launch/docker/train.Dockerfile -t smim-train .
#   docker run --gpus all --shm-size 8g -v "$PWD/data:/work/data" -v "$PWD/runs:/work/runs" smim-train \
#       accelerate launch --num_processes 8 -m smim.train corpus.dir=data/reviews run.dir=runs/reviews
# The container's user has the number 1000: the folders have to be writable for it.
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheels /wheels
# PyPI's torch has CUDA.
RUN pip install --no-cache-dir -c /tmp/constraints.txt "$(ls /wheels/*.whl)[pipeline]" && \
    useradd --create-home --uid 1000 smim && install -d -o smim /work
USER 1000
WORKDIR /work
CMD ["smim", "doctor"]
