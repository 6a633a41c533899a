"""Build a prepared corpus.

    python data_prep/build.py corpus=demo
    python data_prep/build.py corpus=ptb corpus.path=FOLDER output=data/ptb
    python data_prep/build.py corpus=text corpus.path=FILE_OR_FOLDER corpus.name=mine
    python data_prep/build.py corpus=text corpus.path=... prep.engine=ray prep.address=HOST:PORT
    python data_prep/build.py corpus=gmm corpus.dimension=20

If a build is killed, the same command continues it. For all options: `python data_prep/build.py --cfg job`.
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    from smim.waiting import starting

    starting("starting the preparation")

from omegaconf import DictConfig

from data_prep.corpora import (
    demo,
    english,
    everything,
    ptb,
    reviews,
    tatoeba,
    union,
    wikitext,
    wordnet,
    wt103,
    yahoocqa,
)
from smim import config
from smim.preparation import build
from smim.preparation.args import CorpusArgs
from smim.preparation.build import Recipes

# By `corpus.builder`: the class of the settings, and the function that makes a recipe from them.
PUBLISHED: Recipes = {
    "demo": (CorpusArgs, demo.recipe),
    "ptb": (CorpusArgs, ptb.recipe),
    "yelp15": (CorpusArgs, reviews.recipe),
    "yahoo": (CorpusArgs, reviews.recipe),
    "wt103": (CorpusArgs, wt103.recipe),
    "wikitext": (CorpusArgs, wikitext.recipe),
    "everything": (union.UnionArgs, everything.recipe),
    "tatoeba": (tatoeba.TatoebaArgs, tatoeba.recipe),
    "wordnet": (wordnet.WordNetArgs, wordnet.recipe),
    "english": (english.EnglishArgs, english.recipe),
    "yahoocqa": (CorpusArgs, yahoocqa.recipe),
}


def main(cfg: DictConfig) -> None:
    """Build the corpus and print a summary of its card."""
    build.main(cfg, PUBLISHED)


if __name__ == "__main__":
    config.run("build", main)
