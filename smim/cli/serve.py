"""`smim serve`: serve an index over HTTP."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from smim.cli.shared import Gpu
from smim.errors import UserError


def serve(
    index: Annotated[Path, typer.Option(help="An index, such as indexes/ptb.")],
    model: Annotated[Path | None, typer.Option(help="Where the index's model is now, if it was moved.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0: all addresses.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any free one.")] = 8000,
    keys: Annotated[
        Path | None, typer.Option(help="A TOML file of API keys; without it, nobody can change the index.")
    ] = None,
    cors: Annotated[
        list[str] | None, typer.Option(help="An origin whose pages may send requests; may be repeated.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="A host name of this service; *: all; may be repeated."),
    ] = None,
    root_path: Annotated[str, typer.Option(help="The path prefix that a proxy removes, such as /smim.")] = "",
    reranker: Annotated[
        str | None,
        typer.Option(
            help="The cross-encoder for searches with rerank: a directory or a name; default: log q(z|query)."
        ),
    ] = None,
    gpu: Gpu = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the page at /.")] = True,
    max_body: Annotated[int, typer.Option(help="The most bytes of a request.")] = 1_000_000,
    max_batch: Annotated[int, typer.Option(help="The most texts, codes or queries of a request or a batch.")] = 256,
    max_text: Annotated[int, typer.Option(help="The most characters of a text.")] = 10_000,
    max_k: Annotated[int, typer.Option(help="The most hits of a query, with skipped ones.")] = 1_000,
    max_num: Annotated[int, typer.Option(help="The most sentences that a request may generate.")] = 256,
    queue_size: Annotated[
        int, typer.Option(help="The most texts, codes or queries that wait; then status 429.")
    ] = 1_024,
    shards: Annotated[
        int | None, typer.Option(min=1, help="Search in this many parts, on Ray (docs/scale.md).")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Processes of each shard.")] = 1,
    frontends: Annotated[int, typer.Option(min=1, help="Processes that receive requests; each has the model.")] = 1,
    ray_address: Annotated[str | None, typer.Option(help="A Ray cluster, HOST:PORT; default: start one here.")] = None,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds that a search waits for its shards at most.")] = 5.0,
    grace: Annotated[int, typer.Option(help="Seconds to finish accepted requests after SIGTERM.")] = 30,
) -> None:
    """Serve an index over HTTP, with a page to try it.

    Example: smim serve --index indexes/ptb --port 8000
    """
    try:
        from smim.serve.access import Access
        from smim.serve.limits import Limits
        from smim.serve.on_ray import serve_cluster
        from smim.serve.run import serve as run
    except ModuleNotFoundError as error:
        raise UserError(f"serving needs {error.name}; install it with `pip install 'smim[serve]'`") from None
    limits = Limits(
        max_body=max_body,
        max_batch=max_batch,
        max_text=max_text,
        max_k=max_k,
        max_num=max_num,
        queue_size=queue_size,
    )
    if shards is not None:
        run = partial(
            serve_cluster, shards=shards, replicas=replicas, frontends=frontends, address=ray_address, timeout=timeout
        )
    elif replicas > 1 or frontends > 1 or ray_address:
        raise UserError("--replicas, --frontends and --ray-address need --shards")
    run(
        index,
        model=model,
        host=host,
        port=port,
        keys=keys,
        access=Access(cors or [], [host, *(allowed_host or [])], root_path),
        page=page,
        reranker=reranker,
        gpu=gpu,
        limits=limits,
        grace_seconds=grace,
    )
