"""A working directory is gone on from by the same job alone, and its result is put in place whole."""

import pytest

from smim.errors import SmimError, UserError
from smim.work import WorkDirectory

IDENTITY = {"seed": 0, "splits": ("train", "test")}


def work_of(tmp_path, identity=IDENTITY, kind="a report"):
    return WorkDirectory(tmp_path / "out", identity, card="card.json", kind=kind)


def leave_something(work, error=SmimError):
    with pytest.raises(error), work.owned():
        (work.path / "half").write_text("hours of work")
        (work.result / ".shard.partial").write_text("cut")
        raise error("killed")


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_the_same_job_goes_on_without_half_written_files(tmp_path, capsys):
    leave_something(work_of(tmp_path))
    assert "the same command continues from there" in " ".join(capsys.readouterr().err.split())
    work = work_of(tmp_path)
    with work.owned():
        assert (work.path / "half").read_text() == "hours of work" and not names(work.result)
    assert "continuing the work of an earlier job" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("other", [{"identity": {"seed": 1}}, {"kind": "a prepared corpus"}])
def test_another_job_starts_anew(tmp_path, other):
    leave_something(work_of(tmp_path))
    work = work_of(tmp_path, **other)
    with work.owned():
        assert names(work.path) == ["identity.json", "result"]


def test_what_says_of_no_job_that_it_is_its_own_is_not_used(tmp_path):
    work = work_of(tmp_path)
    work.path.mkdir()
    (work.path / "identity").write_text("a job of an earlier version")
    with work.owned():
        assert names(work.path) == ["identity.json", "result"]


def test_the_result_takes_the_place_of_an_older_one_and_nothing_is_left_beside_it(tmp_path):
    for content in ("{}", "[]"):
        work = work_of(tmp_path)
        with work.owned():
            (work.result / "card.json").write_text(content)
        assert names(tmp_path) == ["out"] and (tmp_path / "out" / "card.json").read_text() == content


def test_what_a_lost_worker_left_half_written_is_not_in_the_result(tmp_path):
    with work_of(tmp_path).owned():
        (tmp_path / ".out.work" / "result" / "train").mkdir()
        (tmp_path / ".out.work" / "result" / "train" / ".00001.arrow.host-7.partial").write_text("cut")
        (tmp_path / ".out.work" / "result" / "card.json").write_text("{}")
    assert names(tmp_path / "out") == ["card.json", "train"] and not names(tmp_path / "out" / "train")


def test_without_a_card_the_output_is_left_as_it_is(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "card.json").write_text("old")
    with work_of(tmp_path).owned():
        pass
    assert names(tmp_path) == ["out"] and (tmp_path / "out" / "card.json").read_text() == "old"


def test_a_mistake_of_the_users_leaves_nothing_of_a_new_job_and_all_of_an_older_one(tmp_path):
    leave_something(work_of(tmp_path), UserError)
    assert not names(tmp_path)
    leave_something(work_of(tmp_path))
    leave_something(work_of(tmp_path), UserError)
    assert (work_of(tmp_path).path / "half").exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_something_else_is_not_replaced(tmp_path, kind):
    precious = tmp_path / "out" if kind == "file" else tmp_path / "out" / "thesis.tex"
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("years of work")
    told = "out exists and is not a report; give another output=DIR"
    with pytest.raises(UserError, match=told), work_of(tmp_path).owned():
        pass
    assert precious.read_text() == "years of work" and names(tmp_path) == ["out"]
