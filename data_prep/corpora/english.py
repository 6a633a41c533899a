"""Plain English for the packaged models: everyday sentences of Tatoeba, longer ones of WikiText, and WordNet's glosses.

All texts are redistributable. Some of the sentences occur again in other forms: split by NLTK's word tokenizer ("it
does n't ,"), without the final mark ("bare"), and one of these three forms in lower case. So a model learns to
reproduce all forms. All forms of a sentence are in the same split, which is drawn by (seed, sentence).
"""

import re
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import pyarrow as pa
import sentencex
import xxhash

from data_prep.corpora import tatoeba, wikitext, wordnet
from data_prep.corpora.tatoeba import WRITTEN, TatoebaArgs
from data_prep.corpora.union import Parts, UnionArgs, union
from data_prep.corpora.wordnet import WordNetArgs
from smim.errors import UserError, refuse
from smim.preparation.args import CorpusArgs
from smim.preparation.cleaning import Cleaning
from smim.preparation.readers import ChangedReader
from smim.preparation.recipe import Recipe

if TYPE_CHECKING:
    from nltk.tokenize import NLTKWordTokenizer

_PARTS: Parts = {
    "tatoeba": (TatoebaArgs, tatoeba.recipe),
    "wikitext": (CorpusArgs, wikitext.recipe),
    "wordnet": (WordNetArgs, wordnet.recipe),
}
_END = re.compile(r"""[.!?]+(["')]*)$""")


@dataclass(frozen=True, kw_only=True)
class EnglishArgs(UnionArgs):
    """The shares of sentences that also occur in another form.

    `tokenized`: split into words. `bare`: without the final mark. `lowered`: in lower case; a third of these are as
    written, a third tokenized, and a third bare.
    """

    tokenized: float = 0.1
    bare: float = 0.2
    lowered: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = {"tokenized": self.tokenized, "bare": self.bare, "lowered": self.lowered}
        refuse([f"corpus.{name} is {x}, it must be from 0 to 1" for name, x in shares.items() if not 0 <= x <= 1])


@dataclass(frozen=True)
class AllForms(ChangedReader):
    """A reader that converts another reader's texts to whole sentences, some followed by other forms.

    `cleaning` splits texts into sentences. The column `form` has the form of a row.
    """

    cleaning: Cleaning
    tokenized: float
    bare: float
    lowered: float
    seed: int

    def change(self, block: pa.Table, left_out: Counter[str]) -> pa.Table:
        rows = []
        for text in self.cleaning.apply(block, left_out).column("text").to_pylist():
            if fault := _fault(text):
                left_out[fault] += 1
                continue
            rows.append((text, text, "written"))
            drawn = xxhash.xxh3_128_intdigest(text.encode(), self.seed)
            if drawn % 2**64 < self.tokenized * 2**64:
                rows.append((_tokenized(text), text, "tokenized"))
            if drawn >> 64 < self.bare * 2**64:
                rows.append((_bare(text), text, "bare"))
            drawn = xxhash.xxh3_128_intdigest(text.encode(), self.seed + 1)
            if drawn % 2**64 < self.lowered * 2**64:
                form = (str, _tokenized, _bare)[(drawn >> 64) % 3]
                rows.append((form(text).lower(), text, "lowered"))
        columns = zip(*rows, strict=True) if rows else [()] * 3
        return pa.table([pa.array(column, pa.string()) for column in columns], ["text", WRITTEN, "form"])


def recipe(args: EnglishArgs) -> Recipe:
    """Make the recipe from the files in `parts.NAME.path`. By default Tatoeba and WikiText are downloaded."""
    if args.cleaning != Cleaning():
        raise UserError(
            "give corpus.parts.NAME.max_words, such as corpus.parts.tatoeba.max_words, not corpus.max_words"
        )
    whole = union(args, _PARTS)
    inputs = [
        replace(
            each,
            reader=AllForms(each.reader, whole.cleaning[each.pool], args.tokenized, args.bare, args.lowered, args.seed),
        )
        for each in whole.inputs
    ]
    return replace(
        whole,
        inputs=tuple(inputs),
        cleaning=dict.fromkeys(whole.cleaning, Cleaning()),
        label_columns=("source", "form"),
        draw_by=WRITTEN,
        facts={
            "tokenized": args.tokenized,
            "bare": args.bare,
            "lowered": args.lowered,
            "sentences": {pool: asdict(each) for pool, each in whole.cleaning.items()},
        },
    )


@cache
def _tokenizer() -> "NLTKWordTokenizer":
    from nltk.tokenize import NLTKWordTokenizer  # importing NLTK takes a second

    return NLTKWordTokenizer()


def _tokenized(text: str) -> str:
    """Tokenize like NLTK's `word_tokenize`, but without its sentence splitter, which needs a data download."""
    return " ".join(token for each in sentencex.segment("en", text) for token in _tokenizer().tokenize(each))


def _bare(text: str) -> str:
    return _END.sub(r"\1", text)


def _fault(text: str) -> str | None:
    """The name under which a text is counted if it is not a whole sentence."""
    if "<unk>" in text:
        return "unknown_word"
    if not _END.search(text):
        return "not_ended"
    return "quote_alone" if text.count('"') % 2 or text.count("(") != text.count(")") else None
