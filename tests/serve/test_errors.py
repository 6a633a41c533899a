"""An error's kind is its code, from which its status follows; what clients are told names no place of the machine."""

from pathlib import Path

import pytest

from smim.errors import SmimError, Unsupported, UserError
from smim.lock import BeingChanged
from smim.search.errors import BadFilter, NoSuchSentence, OfIndex, Unreadable
from smim.serve.batching import Busy, Unavailable
from smim.serve.client import ServiceError
from smim.serve.errors import CODES, error_response, for_clients

HERE = Path("/some/where/index")
RAISED = [
    (UserError("wrong"), 422, "wrong"),
    (Unsupported("cannot"), 422, "cannot"),
    (BadFilter("no filter"), 422, "no filter"),
    (OfIndex(HERE, "has no column 'a'"), 422, "the index has no column 'a'"),
    (NoSuchSentence(HERE, "holds no sentence with id 3"), 404, "the index holds no sentence with id 3"),
    (BeingChanged(f"{HERE} is being changed"), 409, "the index is being changed by another process"),
    (Unreadable(f"{HERE} is missing"), 503, "the index cannot be read"),
    (Busy(3), 429, "try again in 3 s"),
    (Unavailable("closing"), 503, "closing"),
]


@pytest.mark.parametrize(("error", "status", "message"), RAISED, ids=lambda value: type(value).__name__)
def test_a_status_follows_from_the_code_and_the_message_has_no_place(
    error: SmimError, status: int, message: str
) -> None:
    assert CODES[error.code][0] == status
    assert message in for_clients(error) and str(HERE) not in for_clients(error)


def all_kinds(kind: type[SmimError]) -> set[type[SmimError]]:
    return {kind}.union(*map(all_kinds, kind.__subclasses__()))


def test_every_error_has_a_code_of_the_table() -> None:
    kinds = all_kinds(SmimError)
    assert {UserError, BadFilter, BeingChanged, Busy, ServiceError} <= kinds
    assert {kind.code for kind in kinds} <= set(CODES)


def test_a_status_without_an_exception_is_called_by_its_first_code() -> None:
    for status, kind in ((404, "not_found"), (422, "invalid"), (503, "unavailable"), (418, "error")):
        assert f'"type":"{kind}","code":"{kind}"'.encode() in error_response(status, "no").body
    assert b'"type":"invalid","code":"bad_filter"' in error_response(422, "no", code="bad_filter").body
