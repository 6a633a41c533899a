"""Start the service on Ray Serve. Each shard and the frontend is a deployment with several replicas.

Ray restarts a replica that dies and spreads replicas over machines. Each machine with a replica accepts HTTP requests.
All machines need the index and the model at the same path.
"""

import asyncio
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

import smim
from smim.errors import SmimError, UserError, refuse_if
from smim.generation import SentenceModel
from smim.model.directory import find
from smim.search import open_index
from smim.serve.access import Access
from smim.serve.cluster import Ask, ClusterBackend
from smim.serve.keys import Keys
from smim.serve.limits import Limits
from smim.serve.run import answer_promptly, listen
from smim.serve.shard import Shard
from smim.waiting import doing

_APPLICATION = "smim"
# Ray notices a dead replica within a second, and a hanging one after three checks that time out.
_HEALTH: dict[str, Any] = {"health_check_period_s": 1, "health_check_timeout_s": 10}
_WAITING_FOR_A_FRONT = 1_000  # requests waiting at one proxy; Ray refuses more


def serve_cluster(
    index: Path | str,
    *,
    model: Path | str | None = None,
    shards: int = 2,
    replicas: int = 1,
    frontends: int = 1,
    address: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: Path | str | None = None,
    access: Access | None = None,
    page: bool = True,
    reranker: Path | str | None = None,
    gpu: bool = False,
    limits: Limits | None = None,
    grace_seconds: int = 30,
    timeout: float = 5.0,
) -> None:
    """Serve an index as `smim.serve.run.serve` does, from the processes of a Ray cluster.

    `shards` times `replicas` processes search the index. `frontends` processes hold the model and receive requests.
    Each process needs a CPU of the Ray cluster at `address` (`auto`: the cluster of this machine; None: start one
    here). A search waits at most `timeout` seconds for its shards. `gpu`: each searching process gets a GPU of the
    cluster.

    Raises `UserError` if Ray is not installed, not running or too small, for a port in use, and as `open_index` and
    `Keys.read` do.
    """
    try:
        import ray
        from ray import serve
    except ModuleNotFoundError:
        raise UserError("serving from a cluster needs Ray; install it with `pip install 'smim[ray,serve]'`") from None
    refuse_if({
        f"there are {shards} shards, {replicas} replicas and {frontends} frontends; give at least one of each":
            min(shards, replicas, frontends) < 1,
        "a cluster listens on the same port of each machine; give it with --port": port == 0,
    })  # fmt: skip
    app_options = {"keys": Keys.read(keys) if keys else None, "access": access, "page": page}
    if address is None:
        listen(host, port).close()  # report a port in use before Ray starts
    directory, model_dir = Path(index).absolute(), None if model is None else find(model).absolute()
    _model(directory, model_dir)  # report problems here, not in a replica
    num_cpus = shards * replicas + frontends
    try:
        ray.init(
            address=address or "local",
            num_cpus=None if address else num_cpus,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except ConnectionError as error:
        raise UserError(f"no Ray cluster answers at {address}: {error}") from None
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        there = int(ray.cluster_resources().get("CPU", 0))
        gpus = int(ray.cluster_resources().get("GPU", 0))
        refuse_if({
            f"{num_cpus} processes need as many CPUs, but the Ray cluster has {there}; ask for fewer":
                there < num_cpus,
            f"{shards * replicas} processes need as many GPUs, but the Ray cluster has {gpus}; ask for fewer":
                gpu and gpus < shards * replicas,
        })  # fmt: skip
        try:
            serve.start(proxy_location="EveryNode", http_options={"host": host, "port": port})
        except RuntimeError as error:
            raise UserError(f"HTTP cannot start at {host}:{port}: {str(error).splitlines()[-1]}") from None
        application = _application(
            *(directory, model_dir, shards, replicas, frontends),
            timeout=timeout,
            limits=limits,
            grace_seconds=grace_seconds,
            reranker=reranker,
            gpu=gpu,
            app_options=app_options,
        )
        try:
            serve.run(application, name=_APPLICATION)
            print(f"serving on http://{f'[{host}]' if ':' in host else host}:{port}, process {os.getpid()}", flush=True)
            doing("")
            stop.wait()
        except RuntimeError as error:
            raise SmimError(f"the service did not start: {error}") from None
        finally:
            serve.delete(_APPLICATION)
    finally:
        ray.shutdown()


def _application(
    directory: Path,
    model_dir: Path | None,
    shards: int,
    replicas: int,
    frontends: int,
    *,
    timeout: float,
    limits: Limits | None,
    grace_seconds: int,
    reranker: Path | str | None,
    gpu: bool,
    app_options: dict[str, Any],
) -> Any:
    from ray import serve

    names = [f"shard-{number}" for number in range(shards)]

    def frontend() -> Any:
        """Create the application in each frontend's process."""
        from smim.search.rerank import cross_encoder
        from smim.serve.app import create_app
        from smim.serve.middleware import log_to_stderr
        from smim.serve.service import Service

        log_to_stderr(others=False)  # Ray has its own log for each replica
        model = _model(directory, model_dir)
        backend = ClusterBackend(directory, [_ask(name) for name in names], model=model, timeout=timeout)
        by = cross_encoder(reranker) if reranker else None
        app = create_app(Service(model, backend, limits, reranker=by), **app_options)
        answer_promptly()
        return app

    each: dict[str, Any] = {"num_replicas": replicas, "ray_actor_options": {"num_gpus": int(gpu)}, **_HEALTH}
    bound = [serve.deployment(name=name, **each)(Shard).bind(str(directory), gpu) for name in names]
    deployment = serve.deployment(
        name="frontend",
        num_replicas=frontends,
        max_ongoing_requests=(limits or Limits()).most_requests,
        max_queued_requests=_WAITING_FOR_A_FRONT,
        graceful_shutdown_timeout_s=grace_seconds,
        **_HEALTH,
    )
    return deployment(serve.ingress(frontend)()).bind(*bound)


def _model(directory: Path, model_dir: Path | None) -> SentenceModel:
    return open_index(directory, model=smim.load(model_dir) if model_dir else None).model


def _ask(name: str) -> Ask:
    """A function that calls methods of a shard on one of its replicas, and raises the exceptions raised there."""
    import ray
    from ray import serve

    handle = serve.get_deployment_handle(name, _APPLICATION)

    async def ask(method: str, *arguments: Any) -> Any:
        response = getattr(handle, method).remote(*arguments)
        try:
            return await response
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except asyncio.CancelledError:
            response.cancel()
            raise

    return ask
