"""WikiText in ordinary writing: "the game's theme", where the published text has "the game 's theme".

It is for models of ordinary text. `wt103.py` is the thesis's WikiText-103, with paragraphs of tokens.
"""

import re
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

import pyarrow as pa

from data_prep.corpora.wt103 import Paragraphs
from smim.errors import UserError
from smim.preparation.args import CorpusArgs
from smim.preparation.readers import by_split, find_files, hub_files, reader_for
from smim.preparation.recipe import Input, Recipe

if TYPE_CHECKING:
    from nltk.tokenize.treebank import TreebankWordDetokenizer

_HUB = ("Salesforce/wikitext", "wikitext-2-v1")
_SPLITS = ("train", "valid", "test")
_STRAIGHT = str.maketrans(dict.fromkeys("\u2018\u2019", "'") | dict.fromkeys("\u201c\u201d\u201e", '"'))
_QUOTE = re.compile(r'(?:^|(?<=\s))"(?=\s|$)')
# Replacements before the detokenizer, of tokens that it would misread, and after it, of tokens that it does not join.
_BEFORE = [
    (r" @([-,.])@ ", r"\1"),  # well @-@ known, 2 @,@ 000
    (r"(?<=\w) ' ?(?=(?:s|t|d|m|re|ve|ll)\b)", "'"),  # game 's, isn 't, children ' s
    (r"(?<=\w) '(?=\w)", "'"),  # O 'Brien
    (r"(?<=s) '(?= )", "'"),  # the brothers ' house
    (r"""(?<=[,:("] )' (?=\w)""", "'"),  # she said , ' Come ! '
]
_AFTER = [
    (r"(?<=\d) ?([:–×⁄]) ?(?=\d)", r"\1"),  # 7 : 10, 1939 – 1945
    (r"(?<=\w) / (?=\w)", "/"),
    (r"(?<=[£€₹¥₤±~+−]) (?=\d)", ""),
    (r"(?<=\d) ?([°′″])(?: (?=[CFNSEW]\b))?", r"\1"),
    (r"\b([A-Z]) & ([A-Z])\b", r"\1&\2"),
    (r'([.!?]")\.', r"\1"),  # " ... to the end . " .
]


class OrdinaryWriting(Paragraphs):
    """A reader of paragraphs whose tokens are joined to ordinary text."""

    def change(self, block: pa.Table, left_out: Counter[str]) -> pa.Table:
        block = super().change(block, left_out)
        texts = [ordinary_writing(text) for text in block.column("text").to_pylist()]
        return block.set_column(block.schema.get_field_index("text"), "text", pa.array(texts, pa.string()))


@cache
def _detokenizer() -> "TreebankWordDetokenizer":
    from nltk.tokenize.treebank import TreebankWordDetokenizer  # importing NLTK takes a second

    return TreebankWordDetokenizer()


def ordinary_writing(text: str) -> str:
    """Join WikiText's tokens to ordinary text: "2 @,@ 000 fans didn 't" becomes "2,000 fans didn't"."""
    text = text.translate(_STRAIGHT)
    for pattern, replacement in _BEFORE:
        text = re.sub(pattern, replacement, text)
    # The detokenizer needs different marks for opening and closing quotes.
    between = _QUOTE.split(text)
    marked = between[0] + "".join(("``", "''")[i % 2] + each for i, each in enumerate(between[1:]))
    text = _detokenizer().detokenize(marked.split())
    for pattern, replacement in _AFTER:
        text = re.sub(pattern, replacement, text)
    return text


def recipe(args: CorpusArgs) -> Recipe:
    """Make the recipe of files in `corpus.path` named by split (train, valid, test). null: the hub's WikiText-2."""
    files = hub_files(*_HUB) if args.path is None else by_split(find_files(args.given_paths("FOLDER")))
    if missing := [split for split in _SPLITS if split not in files]:
        raise UserError(f"WikiText needs files with train, valid and test in their names; no name has {missing[0]}")
    return Recipe(
        inputs=tuple(
            Input(split, path, OrdinaryWriting(reader_for(path))) for split in _SPLITS for path in files[split]
        ),
        draws={split: {split: None} for split in _SPLITS},
        cleaning=dict.fromkeys(_SPLITS, args.cleaning),
        notes=("text of Wikipedia, CC BY-SA 3.0, by way of WikiText (Merity et al. 2016)",),
    )
