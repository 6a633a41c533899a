"""Profiles of training steps by torch's profiler."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from torch.profiler import profile, schedule

from smim import storage

_STEPS_BEFORE = 10


@contextmanager
def make_profiler(directory: Path, *, steps: int) -> Iterator[profile | SimpleNamespace]:
    """Yield an object whose method `step()` must be called after each training step.

    It records `steps` steps after the first ten; 0 records nothing. It writes `operators.txt`, a table of operators,
    and `trace.json` for chrome://tracing or perfetto.dev into `directory`.
    """
    if steps == 0:
        yield SimpleNamespace(step=lambda: None)
        return

    def write(profiler: profile) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=40)
        storage.write_text(directory / "operators.txt", table)
        profiler.export_chrome_trace(str(directory / "trace.json"))

    when = schedule(wait=_STEPS_BEFORE - 1, warmup=1, active=steps, repeat=1)
    with profile(schedule=when, on_trace_ready=write) as profiler:
        yield profiler
