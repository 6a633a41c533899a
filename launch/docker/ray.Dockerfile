# The pipeline on a Ray cluster of Kubernetes (launch/kuberay/). From the root of a clone:
#   docker build -f launch/docker/ray.Dockerfile -t smim-ray .
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# Of the version in constraints.txt. It has what KubeRay's probes need.
FROM rayproject/ray:2.60.0-py311
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir -c /tmp/constraints.txt "$(ls /wheels/*.whl)[pipeline]"
USER 1000
