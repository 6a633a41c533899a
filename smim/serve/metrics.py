"""Metrics of a service, for Prometheus."""

from functools import partial

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from smim.search.query import Description
from smim.serve.service import Service

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """All labels have bounded sets of values: routes, methods, statuses and queues."""

    def __init__(self, service: Service) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "smim_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "smim_request_seconds", "Seconds from a request's head to its response.", ["route"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        batches = Histogram(
            "smim_batch_items", "Items computed together.", ["queue"], buckets=_ITEMS, registry=registry
        )
        waiting = Gauge("smim_queue_items", "Items that wait.", ["queue"], registry=registry)
        for batcher in service.batchers:
            batcher.observe = batches.labels(batcher.name).observe
            waiting.labels(batcher.name).set_function(partial(getattr, batcher, "waiting"))
        self._sentences = Gauge("smim_index_sentences", "Sentences of the index.", registry=registry)
        self._version = Gauge("smim_index_version", "Counts the changes of the index.", registry=registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self, description: Description | None) -> bytes:
        """The metrics in Prometheus's format; without a description, the index's numbers are the previous ones."""
        if description is not None:
            self._sentences.set(description.count)
            self._version.set(description.version)
        return generate_latest(self.registry)
