"""The union of PTB, Yahoo, Yelp15 and WT103 with one vocabulary. The column `source` names a sentence's corpus."""

from data_prep.corpora import ptb, reviews, wt103
from data_prep.corpora.union import Parts, UnionArgs, union
from smim.errors import UserError
from smim.preparation.args import CorpusArgs
from smim.preparation.cleaning import Cleaning
from smim.preparation.recipe import Recipe

_PARTS: Parts = {
    "ptb": (CorpusArgs, ptb.recipe),
    "yahoo": (CorpusArgs, reviews.recipe),
    "yelp15": (CorpusArgs, reviews.recipe),
    "wt103": (CorpusArgs, wt103.recipe),
}


def recipe(args: UnionArgs) -> Recipe:
    if args.cleaning != Cleaning():
        raise UserError(
            "corpus=everything cleans each of its parts by itself: give, for example, corpus.parts.ptb.max_words "
            "instead of corpus.max_words"
        )
    if any(part["path"] is None for part in args.parts.values()):
        args.given_paths("FOLDER with the folders ptb, yahoo, yelp15 and wt103")
    return union(args, _PARTS)
