"""Tatoeba and plain English: archives and text, downloads, all forms of a sentence, and what is held out."""

import hashlib
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_prep.corpora import tatoeba
from data_prep.corpora.wikitext import ordinary_writing
from smim.errors import UserError
from smim.text.corpus import Corpus
from tests.preparation.builds import build

SPLITS = ("train", "valid", "test")
WORDS = ["corpus.tokenizer.kind=word", "corpus.tokenizer.min_count=1", "prep.workers=1"]
EVERYDAY = [f'Tom said, "I can\'t see {number} of them."' for number in range(200)]


def archive(path: Path, texts: list[str] = EVERYDAY, *, names: tuple[str, ...] = ("fra.txt",)) -> Path:
    """As manythings.org/anki has it; the first sentence has two translations."""
    lines = [f"{text}\tC'est ça.\tCC-BY 2.0 (France) Attribution: tatoeba.org" for text in [texts[0], *texts]]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("_about.txt", "about")
        for name in names:
            file.writestr(name, "\n".join(lines))
    return path


def wikitext(folder: Path) -> Path:
    folder.mkdir()
    for split in SPLITS:
        (folder / f"wiki.{split}.tokens").write_text(
            f" \n = Game = \n \n He didn 't win in {split} . It is a <unk> of words . The brothers ' house ( a ruin\n"
        )
    return folder


# As WordNet 3.0 has it: a licence, and sets of synonyms with their glosses behind a bar.
WORDNET = [
    "  1 This software and database is being provided to you.  ",
    '00001740 03 n 01 bank 0 001 @ 00001740 n 0000 | (geography) sloping land; "they pulled up the canoe"; "Sit!"  ',
    *(f"{number:08} 03 n 01 lone 0 000 | being number {number} of them  " for number in range(200)),
]
MEANINGS = ["They pulled up the canoe.", *(f"Being number {number} of them." for number in range(200))]


def wordnet(folder: Path) -> Path:
    folder.mkdir()
    for name in ("adj", "adv", "noun", "verb"):
        (folder / f"data.{name}").write_text("\n".join(WORDNET if name == "noun" else []))
    return folder


def held(corpus: Corpus, **columns: str) -> dict[str, set[str]]:
    """The sentences of each split that have these labels."""
    found = {}
    for split in map(corpus.split, SPLITS):
        labels = [split.labels(column) for column in columns]
        rows = zip(split.texts(), *labels, strict=True)
        found[split.name] = {text for text, *own in rows if own == list(columns.values())}
    return found


def test_an_archive_and_its_plain_text_give_the_same_sentences_once(tmp_path: Path):
    (tmp_path / "plain.txt").write_text("\n".join(EVERYDAY))
    path = archive(tmp_path / "fra-eng.zip")
    zipped = build(tmp_path / "zipped", "corpus=tatoeba", f"corpus.path={path}", *WORDS)
    plain = build(tmp_path / "plain", "corpus=tatoeba", f"corpus.path={tmp_path / 'plain.txt'}", *WORDS)
    assert held(zipped) == held(plain)
    assert sorted(set.union(*held(plain).values())) == sorted(EVERYDAY)
    assert zipped.card["left_out"] == {"duplicate": 1} and plain.card["left_out"] == {}
    assert zipped.card["notes"] == ["sentences of manythings.org/anki and tatoeba.org, CC BY 2.0 FR"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK nothing", "is damaged or no archive of sentences"),
        (("fra.txt", "deu.txt"), "holds 2 texts, but must hold one"),
        ((), "holds 0 texts"),
    ],
)
def test_an_archive_of_something_else_is_one_message(tmp_path: Path, content, message: str):
    path = tmp_path / "fra-eng.zip"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        archive(path, names=content)
    with pytest.raises(UserError, match=message):
        build(tmp_path / "out", "corpus=tatoeba", f"corpus.path={path}", *WORDS)


def test_what_is_downloaded_is_checked_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "served").mkdir()
    content = archive(tmp_path / "served" / "fra-eng.zip").read_bytes()
    monkeypatch.chdir(tmp_path)
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(tatoeba, "_URL", f"http://127.0.0.1:{server.server_port}/fra-eng.zip")
        with pytest.raises(UserError, match=r"does not have the expected SHA1 94646.*give it as corpus\.path=FILE"):
            build(tmp_path / "out", "corpus=tatoeba", *WORDS)
        assert not (tmp_path / "data").exists()
        monkeypatch.setattr(tatoeba, "_SHA1", hashlib.sha1(content).hexdigest())
        build(tmp_path / "out", "corpus=tatoeba", *WORDS)
        server.shutdown()
    # There is nobody to fetch it from now.
    again = build(tmp_path / "again", "corpus=tatoeba", *WORDS)
    assert sorted(set.union(*held(again).values())) == sorted(EVERYDAY)
    (tmp_path / "data/downloads/tatoeba/fra-eng.zip").unlink()
    with pytest.raises(UserError, match=r"cannot download http.*give it as corpus\.path=FILE"):
        build(tmp_path / "out", "corpus=tatoeba", *WORDS)


def test_english_has_whole_sentences_in_all_forms_which_stay_together(tmp_path: Path):
    (tmp_path / "tatoeba.txt").write_text("\n".join([*EVERYDAY, "No end", 'One quote " alone.']))
    everyday, wiki = f"{tmp_path / 'tatoeba.txt'}", wikitext(tmp_path / "wiki")
    files = {"tatoeba": everyday, "wikitext": wiki, "wordnet": wordnet(tmp_path / "wordnet")}
    paths = [f"corpus.parts.{name}.path={path}" for name, path in files.items()]
    shares = ["corpus.tokenized=0.3", "corpus.bare=0.2", "corpus.lowered=0.4"]
    corpus = build(tmp_path / "out", "corpus=english", *paths, *shares, *WORDS)
    forms = ("written", "tokenized", "bare", "lowered")
    written, tokenized, bare, lowered = (held(corpus, source="tatoeba", form=form) for form in forms)
    assert sorted(set.union(*written.values())) == sorted(EVERYDAY)

    def parted(text: str) -> str:
        return text.replace(", \"I can't", " , `` I ca n't").replace('."', " . ''")

    for split in SPLITS:
        assert tokenized[split] <= set(map(parted, written[split]))
        unended = {text.replace('."', '"') for text in written[split]}
        assert bare[split] <= unended
        assert lowered[split] <= {text.lower() for text in written[split] | unended | set(map(parted, written[split]))}
    assert 30 < sum(map(len, tokenized.values())) < 90
    assert 20 < sum(map(len, bare.values())) < 60
    assert 50 < sum(map(len, lowered.values())) < 110
    own = held(corpus, source="wikitext", form="written")
    assert own == {split: {f"He didn't win in {split}."} for split in SPLITS}
    assert corpus.card["left_out"] == {
        **{"empty": 6, "heading": 3, "not_ended": 4, "quote_alone": 1, "too_short": 2, "unknown_word": 3}
    }
    assert set.union(*held(corpus, source="wordnet", form="written").values()) == set(MEANINGS)
    # What a model of the one holds out, a model of the other does not see.
    alone = build(tmp_path / "alone", "corpus=tatoeba", f"corpus.path={everyday}", *WORDS)
    assert {split: texts & set(EVERYDAY) for split, texts in held(alone).items()} == written


def test_wordnet_says_what_words_mean_in_sentences(tmp_path: Path):
    path = wordnet(tmp_path / "wordnet")
    corpus = build(tmp_path / "out", "corpus=wordnet", f"corpus.path={path}", *WORDS)
    assert sorted(text for split in SPLITS for text in corpus.split(split).texts()) == sorted(MEANINGS)
    assert corpus.card["notes"] == [
        "WordNet 3.0, Copyright 2006 by Princeton University, under the WordNet 3.0 license"
    ]
    (path / "data.verb").unlink()
    with pytest.raises(UserError, match=r"has no data\.verb of WordNet 3\.0; install Debian's package wordnet-base"):
        build(tmp_path / "none", "corpus=wordnet", f"corpus.path={path}", *WORDS)


@pytest.mark.parametrize(
    ("tokens", "written"),
    [
        ('She said : " I \'m here . " .', 'She said: "I\'m here."'),
        ("the games ' theme , an O 'Brien song ( 1 @,@ 000 )", "the games' theme, an O'Brien song (1,000)"),
        ("At 7 : 10 p.m. , R & B won 2 – 1 .", "At 7:10 p.m., R&B won 2–1."),
        ("For $ 5 or £ 3 , 10 % and / or 32 ° F ; “ so ’ s that ” .", "For $5 or £3, 10% and/or 32°F; \"so's that\"."),
        ("They asked , ' Why ? ' [ sic ] .", "They asked, 'Why?' [sic]."),
        ("a ( U.S. ) .", "a (U.S.)."),
    ],
)  # fmt: skip
def test_wikitext_is_written_as_people_do(tokens: str, written: str):
    assert ordinary_writing(tokens) == written
