r"""An exported model in `mteb`, on sets of your own: no network, the tasks are made of local files.

    pip install mteb==2.26.24
    python -c "from smim.sentence_transformer import export; export('english-small', 'exported', similarity='cosine')"
    python docs/examples/mteb_local.py exported semantic/ --split dev

docs/evaluation.md says how the files are called and what is in them. Of similarities mteb makes an STS task, of
paraphrases pair classification, of classes classification (from 8 examples of each, ten times).
"""

import argparse

import mteb
from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTask, AbsTaskClassification, AbsTaskPairClassification, AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from sentence_transformers import SentenceTransformer

from smim.evaluation.semantic_sets import Rows, SemanticSet, read_sets

# Of each kind of set: the task, what mteb calls it, its main score, and the columns that it reads.
TASKS = {
    "similarity": (AbsTaskSTS, "STS", "cosine_spearman", ["sentence1", "sentence2", "score"]),
    "paraphrases": (AbsTaskPairClassification, "PairClassification", "cosine_ap", ["sentence1", "sentence2", "labels"]),
    "classes": (AbsTaskClassification, "Classification", "accuracy", ["text", "label"]),
}


def task_of(given: SemanticSet, split: str) -> AbsTask:
    """A task of mteb that has its data already."""
    kind, type_name, main_score, columns = TASKS[given.kind]

    def table(rows: Rows) -> Dataset:
        values = rows.values.tolist() if given.kind == "similarity" else rows.values.astype(int).tolist()
        return Dataset.from_dict(dict(zip(columns, [*rows.texts, values], strict=True)))

    metadata = TaskMetadata(
        name=given.name,
        description=f"{given.kind} of {', '.join(path.name for path in given.files)}",
        dataset={"path": given.name, "revision": "local"},
        type=type_name,
        eval_splits=[split],
        eval_langs=["eng-Latn"],
        main_score=main_score,
    )
    task = type(given.name, (kind,), {"metadata": metadata})()
    parts = {split: given.evaluated, **({"train": given.train} if given.train else {})}
    task.dataset, task.data_loaded = DatasetDict({name: table(rows) for name, rows in parts.items()}), True
    return task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="an exported model")
    parser.add_argument("sets", nargs="+", help="files or folders")
    parser.add_argument("--split", default="dev", choices=["dev", "test"])
    args = parser.parse_args()
    tasks = [task_of(each, args.split) for each in read_sets(args.sets, args.split) if each.kind in TASKS]

    # The flag lets the library import `smim`.
    model = SentenceTransformer(args.model, trust_remote_code=True)
    results = mteb.evaluate(model, tasks, cache=None, show_progress_bar=False)
    for task, result in zip(tasks, results.task_results, strict=True):
        [scores] = result.scores[args.split]
        print(f"{result.task_name:12} {task.metadata.main_score:16} {scores['main_score']:.4f}")


if __name__ == "__main__":
    main()
