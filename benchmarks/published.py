"""Compare the whole of a training with the authors' published trainer: data, steps, log and checkpoints.

    git clone https://github.com/seraphlabs-ca/SentenceMIM-demo published
    python benchmarks/published.py rate published data/ptb      sentences/s of both, in alternating windows
    python benchmarks/published.py epoch published data/ptb     the validation losses after an epoch

Put ptb.train.txt, ptb.valid.txt and ptb.test.txt into published/data/datasets/ptb. Both train sMIM(512) on PTB
with batches of 20: theirs by the command of their README, ours by `experiment=ptb_smim_512`. `rate` starts both and
stops one of them while the other runs, so that neither start counts.
"""

import math
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.common import ROOT, main, ratio

BATCH_SIZE = 20
THEIRS = (
    "--seed {seed} --dataset ptb --embedding_dropout 0.5 --epochs 1 --max_sequence_length 100 --batch_size 20 "
    "--embedding_size 300 --hidden_size 512 --latent_size 512 --optim adam -lr 0.001 -x0 0 --mim --print_every {every}"
)
Options = Annotated[list[str] | None, typer.Argument(help="More settings of our training, as train.precision=fp32.")]


class Run:
    """A training in a process of its own. `batches` counts the steps in its log."""

    def __init__(self, name: str, command: list[str], cwd: Path, log: Path, step: str) -> None:
        self.name, self.step, self.log = name, step, log
        # A console of other programs is buffered without this variable.
        environment = {"PYTHONUNBUFFERED": "1", "PATH": str(Path(sys.executable).parent), "HOME": str(Path.home())}
        self.process = subprocess.Popen(
            command, cwd=cwd, stdout=log.open("w"), stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )

    @property
    def batches(self) -> int:
        found = re.findall(self.step, self.log.read_text())
        return int(found[-1]) if found else 0

    def check(self) -> None:
        if self.process.poll() is not None:
            sys.exit(f"{self.name} ended with status {self.process.returncode}:\n{self.log.read_text()[-2000:]}")

    def send(self, number: int) -> None:
        self.process.send_signal(number)


def theirs(published: Path, folder: Path, *, every: int, seed: int = 1) -> Run:
    """Start the authors' trainer."""
    command = [sys.executable, "train.py", *THEIRS.format(every=every, seed=seed).split()]
    command += ["--save_model_path", str(folder / "theirs")]
    return Run("theirs", command, published, folder / "theirs.log", r"TRAIN Batch (\d+)/")


def ours(corpus: Path, folder: Path, *settings: str) -> Run:
    """Start our trainer with the settings of the experiment."""
    command = [sys.executable, "smim/train.py", "experiment=ptb_smim_512", f"corpus.dir={corpus.absolute()}"]
    command += [f"run.dir={folder / 'ours'}", *settings]
    return Run("ours", command, ROOT, folder / "ours.log", r"step (\d+)")


def rate(published: Path, corpus: Path, rounds: int = 5, seconds: float = 30.0, settings: Options = None) -> None:
    """Sentences a second of both trainings, in windows of `seconds` that alternate."""
    folder = Path(tempfile.mkdtemp(prefix="published"))
    every = 5  # the log's lines of both, in steps: they bound the error of a window
    runs = [
        theirs(published, folder, every=every),
        ours(corpus, folder, f"train.log_every={every}", *(settings or [])),
    ]
    try:
        for run in runs:
            while run.batches < 2 * every:
                run.check()
                time.sleep(0.2)
            run.send(signal.SIGSTOP)
        found: dict[str, list[float]] = {run.name: [] for run in runs}
        for number in range(rounds):
            for run in runs if number % 2 == 0 else reversed(runs):
                run.send(signal.SIGCONT)
                before, started = next_line(run)
                time.sleep(seconds)
                after, ended = next_line(run)
                run.send(signal.SIGSTOP)
                found[run.name].append(BATCH_SIZE * (after - before) / (ended - started))
                print(f"  {run.name:8} {found[run.name][-1]:8.1f} sentences/s", flush=True)
        for name, rates in found.items():
            print(f"  {name}: {statistics.median(rates):.1f} sentences/s ({min(rates):.1f} to {max(rates):.1f})")
        ratio(found, "ours", "theirs")
    finally:
        for run in runs:
            run.process.kill()
        shutil.rmtree(folder)


def next_line(run: Run) -> tuple[int, float]:
    """Wait for the next line of the log. Return its number of batches, and the time."""
    before = run.batches
    while (batches := run.batches) == before:
        run.check()
        time.sleep(0.01)
    return batches, time.perf_counter()


def epoch(
    published: Path,
    corpus: Path,
    seed: Annotated[list[int] | None, typer.Option(help="A random seed for both; may be repeated.")] = None,
    settings: Options = None,
) -> None:
    """The validation loss and reconstruction of both after an epoch, in nats a sentence, and the seconds each took.

    The authors add log 20 to the loss of a batch of 20 sentences, which is left out here. They also leave out the last
    ten of the 3,370 validation sentences, which fill no batch.
    """
    constant = math.log(BATCH_SIZE) / BATCH_SIZE
    folder = Path(tempfile.mkdtemp(prefix="published"))

    def measured(name: str, run: Run, pattern: str, less: float) -> None:
        started = time.perf_counter()
        run.process.wait()
        found = re.findall(pattern, run.log.read_text())
        if not found:
            sys.exit(f"{name} printed no validation loss:\n{run.log.read_text()[-2000:]}")
        loss, reconstruction = (float(value) - less for value in found[-1])
        print(f"  {name:14} {loss:.2f} {reconstruction:.2f}, {time.perf_counter() - started:.0f} s", flush=True)
        shutil.rmtree(folder / name.partition(",")[0], ignore_errors=True)

    print("  loss and reconstruction, nats a sentence")
    try:
        for each in seed or [1]:
            run = ours(corpus, folder, "train.max_epochs=1", f"train.seed={each}", *(settings or []))
            measured(f"ours, seed {each}", run, r"validation .*?loss (-?\d+\.\d+).*?reconstruction (\d+\.\d+)", 0)
            run = theirs(published, folder, every=1000, seed=each)
            measured(
                f"theirs, seed {each}",
                run,
                r"VALID Epoch 00/1, Mean ELBO *(-?\d+\.\d+), Mean NLL *(\d+\.\d+)",
                constant,
            )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(__doc__, rate, epoch)
