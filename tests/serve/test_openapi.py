"""What OpenAPI says is what the service does: random requests, proper and not, are answered as documented."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from smim.serve.access import Access
from smim.serve.app import create_app
from smim.serve.keys import Keys
from smim.serve.service import Service
from tests.serve.test_keys import GOOD, WRITER, write

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]


@pytest.fixture
def app(serve: Callable[..., Service], tmp_path: Path) -> FastAPI:
    keys = Keys.read(write(tmp_path / "keys.toml", GOOD))
    return create_app(
        serve(max_batch=8, max_num=4, max_k=50), keys=keys, page=False, access=Access(hosts=["testserver"])
    )


def ask(app: FastAPI, examples: int) -> int:
    """Sends so many requests to each operation, half of them against its schema; how many there were."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    # What is too large is refused as such before it is looked into.
    schema.config.checks.negative_data_rejection.expected_statuses.append("413")
    count = 0
    for result in schema.get_all_operations():
        operation: Any = result.ok()
        takes_something = operation.body or operation.path_parameters
        for mode in (GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if takes_something else [])):

            @seed(1)
            @settings(
                max_examples=examples // 2,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                nonlocal count
                count += 1
                case.call_and_validate(headers={"Authorization": f"Bearer {WRITER}"}, checks=CHECKS)

            check()
    return count


def test_random_requests_are_answered_as_documented(app: FastAPI) -> None:
    assert ask(app, 10) > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_random_requests_are_answered_as_documented(app: FastAPI) -> None:
    assert ask(app, 700) >= 10_000
