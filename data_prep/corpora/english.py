"""Plain English, for models that ship: everyday sentences of Tatoeba, longer ones of WikiText, and what WordNet says of
words. All may be passed on.

Shares of the sentences stand there again: as NLTK's word tokenizer parts them, "it does n't ,", bare, without the mark
at their end, and in lower case, one of these three. So a model learns to give back all of them. They stay together in
one split, which is drawn by (seed, sentence).
"""

import re
from collections import Counter
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import sentencex
import xxhash
from nltk.tokenize import NLTKWordTokenizer

from data_prep.corpora import tatoeba, wikitext, wordnet
from data_prep.corpora.tatoeba import WRITTEN, TatoebaArgs
from data_prep.corpora.union import Parts, UnionArgs, union
from data_prep.corpora.wordnet import WordNetArgs
from smim.errors import UserError, refuse
from smim.preparation.args import CorpusArgs
from smim.preparation.cleaning import Cleaning
from smim.preparation.readers import ChangedReader
from smim.preparation.recipe import Recipe

_PARTS: Parts = {
    "tatoeba": (TatoebaArgs, tatoeba.recipe),
    "wikitext": (CorpusArgs, wikitext.recipe),
    "wordnet": (WordNetArgs, wordnet.recipe),
}
_TOKENIZER = NLTKWordTokenizer()
_END = re.compile(r"""[.!?]+(["')]*)$""")


@dataclass(frozen=True, kw_only=True)
class EnglishArgs(UnionArgs):
    """The shares of sentences that stand there in another form too.

    `tokenized`: parted into words; `bare`: without their end; `lowered`: in lower case, a third of them each as
    written, tokenized and bare.
    """

    tokenized: float = 0.1
    bare: float = 0.2
    lowered: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = {"tokenized": self.tokenized, "bare": self.bare, "lowered": self.lowered}
        refuse([f"corpus.{name} is {x}, it is a share, from 0 to 1" for name, x in shares.items() if not 0 <= x <= 1])


@dataclass(frozen=True)
class AllForms(ChangedReader):
    """Another reader's texts as whole sentences, and behind some of them their other forms.

    `cleaning` makes sentences of texts. `form` says which of them a row is.
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
    """Each part's files in `parts.NAME.path`; Tatoeba and WikiText are downloaded where they are not given."""
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


def _tokenized(text: str) -> str:
    """As NLTK's `word_tokenize` parts it, of which only the splitting into sentences needs data of its own."""
    return " ".join(token for each in sentencex.segment("en", text) for token in _TOKENIZER.tokenize(each))


def _bare(text: str) -> str:
    return _END.sub(r"\1", text)


def _fault(text: str) -> str | None:
    """Under which name a text that is no whole sentence is counted."""
    if "<unk>" in text:
        return "unknown_word"
    if not _END.search(text):
        return "not_ended"
    return "quote_alone" if text.count('"') % 2 or text.count("(") != text.count(")") else None
