"""Evaluate a trained model of sentences or of vectors.

    accelerate launch eval/run.py model.dir=RUN/model corpus.dir=data/ptb eval=thesis
    accelerate launch eval/run.py model.dir=RUN/model corpus.dir=data/gmm

Any number of processes share the sentences. The job writes `report.json`, `report.md` and `report.html` into `output`
(by default `report/` beside the model). A killed job continues after the last finished metric group. For all options:
`python eval/run.py --cfg job`.
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    from smim.waiting import starting

    starting("starting the evaluation")

from functools import partial

from eval import thesis
from smim import config
from smim.evaluation import run

main = partial(run.main, reference=thesis.rows())

if __name__ == "__main__":
    config.run("evaluate", main)
