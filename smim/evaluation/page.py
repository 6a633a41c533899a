"""The page of a report, as Markdown, from the content of its `report.json`."""

import math
from typing import Any

from smim.evaluation.groups import definition, headlines
from smim.evaluation.markup import code, literal, prose, table, with_error
from smim.evaluation.reference import name_of
from smim.evaluation.section import Definition
from smim.vectors.corpus import KIND

_COLUMNS = 6  # of a table
_UNCERTAIN = 0.25  # standard errors above so much of a value are marked
_OTHER_PRIORS = {
    "nll_elbo": "`nll_elbo` (the model's own prior)",
    "nll_iw": "`nll_iw` (the model's own prior, importance-weighted)",
    "nll_train_prior": "`nll_train_prior` (the aggregate posterior of training sentences)",
}


def as_markdown(report: dict[str, Any]) -> str:
    """Verdict, some sentences, at a glance, then every section, what MELBO is, and where the numbers come from."""
    blocks = [_title(report), *_verdict(report), *_samples(report), _heading(report), *_at_a_glance(report)]
    for key, section in report["sections"].items():
        blocks += _section(report, key, section)
    if "nll" in report["metrics"]:
        blocks += ["## What MELBO is, and is not", *_what_melbo_is(report)]
    blocks += ["## Provenance", _provenance(report)]
    return "\n\n".join(blocks) + "\n"


def _title(report: dict[str, Any]) -> str:
    corpus = report["corpus"]
    return f"# {literal(name_of(report))} on {literal(corpus['name'])}, {literal(corpus['split'])}"


def _verdict(report: dict[str, Any]) -> list[str]:
    if report["verdict"] is None:
        return []
    first, _, rest = report["verdict"]["text"].partition(". ")
    return [f"**{prose(first)}.** {prose(rest)}", f"**What to do.** {prose(report['verdict']['advice'])}"]


def _samples(report: dict[str, Any]) -> list[str]:
    blocks = []
    for section in report["sections"].values():
        if shown := section["samples"]:
            blocks += [f"{prose(shown['title'])}:", _table(shown["header"], shown["rows"])]
    return blocks


def _heading(report: dict[str, Any]) -> str:
    model = report["model"]
    return _evaluated(report["corpus"]) + (
        f"The model: {model['parameters']:,} parameters, {model['latent_dim']} latent dimensions; "
        f"trained{_trained_on(report)} for {model['step']:,} steps ({_count(model['epoch'], 'epoch')})."
    )


def _trained_on(report: dict[str, Any]) -> str:
    """Such as " on 20,575 sentences of demo", as far as it is known."""
    model = report["model"]
    corpus = literal(model["trained_on"]) if model.get("trained_on") else ""
    if num := model.get("train_sentences"):
        return f" on {num:,} {'vectors' if _of_vectors(report) else 'sentences'}" + (f" of {corpus}" if corpus else "")
    return f" on {corpus} (the model does not say how large that is)" if corpus else ""


def _count(num: int, unit: str) -> str:
    return f"{num:,} {unit}{'s' * (num != 1)}"


def _evaluated(corpus: dict[str, Any]) -> str:
    place = f"{literal(corpus['name'])}, {literal(corpus['split'])}"
    if "dimension" in corpus:
        return f"Evaluated: {corpus['sentences']:,} vectors of {corpus['dimension']} dimensions, {place}. "
    text = (
        f"Evaluated: {corpus['sentences']:,} sentences of {place}; "
        f"{corpus['tokens']:,} tokens, {corpus['tokens_per_sentence']:.1f} tokens a sentence (`<eos>` not counted). "
    )
    if corpus["retokenized"]:
        text += "The text was encoded again with the model's tokenizer. "
    if corpus["unknown_share"] is not None:
        text += f"The model does not know {corpus['unknown_share']:.2%} of the tokens. "
    return text


def _of_vectors(report: dict[str, Any]) -> bool:
    return report["corpus"].get("kind") == KIND


def _at_a_glance(report: dict[str, Any]) -> list[str]:
    rows = []
    for each in headlines(report["metrics"]):
        metric = report["metrics"][each.name]
        ours = with_error(metric["value"], metric["standard_error"])
        if each.name == "active_units_relative":
            ours += f" of {report['model']['latent_dim']}"
        rows.append([code(each.name), ours, *_beside(report, each.name), each.unit, _in_short(report, each)])
    if not rows:
        return []
    settings = report["settings"]
    drawn = f"Seed {settings['seed']}"
    if not _of_vectors(report):
        drawn += (
            f"; repetitions with fresh noise: {settings['num_runs']}; longest decode: {settings['max_length']} tokens"
        )
    explained = (
        f"± is the standard error over the {report['corpus']['sentences']:,} evaluated items, or over as many as a "
        f"row names. It does not include the variation between trainings. {drawn}."
    )
    return ["## At a glance", _metrics_table(report, rows), explained]


def _in_short(report: dict[str, Any], each: Definition) -> str:
    """What a metric means and whether more of it is better, after a warning where it is too uncertain."""
    metric, meaning = report["metrics"][each.name], prose(each.meaning)
    if each.name == "nll":
        meaning += f"; a perfect autoencoder scores log N = {math.log(metric['n']):.2f} here"
    meaning += f"; {each.better} is better" if each.better else "; neither higher nor lower is better"
    error = metric["standard_error"]
    if each.zero_is_least and error is not None and error > _UNCERTAIN * abs(metric["value"]):
        instead = each.exponent_of if each.exponent_of in report["metrics"] else ""
        look = f", or look at `{instead}`" if instead else ""
        why = "; as an exponential it is dominated by a few sentences" if each.exponent_of else ""
        meaning = f"**(too uncertain to compare; evaluate more sentences{look})** {meaning}{why}"
    return meaning


def _metrics_table(report: dict[str, Any], rows: list[list[str]]) -> str:
    sources = list(report["published"])
    return table(["metric", "ours", *sources, "unit", "meaning"], rows, optional=("unit", *sources))


def _beside(report: dict[str, Any], name: str) -> list[str]:
    return [str(metrics.get(name, "")) for metrics in report["published"].values()]


def _section(report: dict[str, Any], key: str, section: dict[str, Any]) -> list[str]:
    blocks = [f"## {prose(section['title'])}", *section["notes"]]
    rows = [
        _metric_row(report, name)
        for name, metric in report["metrics"].items()
        if metric["section"] == key and not definition(name).in_tables
    ]
    if rows:
        blocks.append(_metrics_table(report, rows))
    for each in section["tables"]:
        blocks += [f"### {prose(each['title'])}", *_pieces(each["header"], each["rows"])]
    for name, caption in section["plots"].items():
        blocks += [f"![{prose(caption)}](plots/{name})", f"*{prose(caption)}*"]
    return blocks


def _pieces(header: list[str], rows: list[list[str]]) -> list[str]:
    """A table as one or several of at most six columns, of which the first is that of each."""
    others = range(1, len(header))
    parts = [others[i : i + _COLUMNS - 1] for i in range(0, len(others), _COLUMNS - 1)] or [others]
    chosen = [[0, *part] for part in parts]
    return [_table([header[i] for i in part], [[row[i] for i in part] for row in rows]) for part in chosen]


def _table(header: list[str], rows: list[list[str]]) -> str:
    return table([prose(name) for name in header], [[literal(cell) for cell in row] for row in rows])


def _metric_row(report: dict[str, Any], name: str) -> list[str]:
    metric, defined = report["metrics"][name], definition(name)
    ours = with_error(metric["value"], metric["standard_error"])
    meaning = defined.meaning + (f" ({defined.equation})" if defined.equation else "")
    meaning += f"; {defined.better} is better" if defined.better else ""
    if metric["n"] != report["corpus"]["sentences"]:
        meaning += f"; N = {metric['n']:,}"
    return [code(name), ours, *_beside(report, name), defined.unit, prose(meaning)]


def _what_melbo_is(report: dict[str, Any]) -> list[str]:
    num = report["metrics"]["nll"]["n"]
    others = [text for name, text in _OTHER_PRIORS.items() if name in report["metrics"]]
    known = (
        f"Bounds under priors that do not know the evaluated sentences: {', '.join(others)}."
        if others
        else "This report has no bound under a prior that does not know the evaluated sentences."
    )
    return [
        "`nll` and `ppl` are the thesis's MELBO (eq. 6.17). Its prior is the aggregate posterior of the evaluated set "
        "itself. So it measures how well each code distinguishes its sentence from the others of this set. "
        f"A perfect autoencoder scores log N = {math.log(num):.2f} nats here, whatever the text. The bound is "
        "transductive: its prior has seen the sentences that it is scored on. It grows with log N. "
        "It is not the probability of unseen text, and its perplexity is not comparable to a language model's.",
        known,
        f"Perplexities are per token of this model's tokenizer ({report['corpus']['tokens_per_sentence']:.1f} tokens a "
        "sentence here). Do not compare them across tokenizers.",
    ]


def _provenance(report: dict[str, Any]) -> str:
    model, corpus, environment = report["model"], report["corpus"], report["environment"]
    loss = "unknown" if model["valid_loss"] is None else f"{model['valid_loss']:.5g}"
    device = f"; {report['device']}" if report.get("device") else ""
    size = f"{corpus['dimension']} dimensions" if _of_vectors(report) else f"{corpus['bytes']:,} bytes of text"
    facts = {
        "command": environment["command"],
        "model": f"{model['directory']}, hash {model['hash'][:12]}",
        "training": f"{model['objective']}, seed {model['seed']}, validation loss {loss}",
        "corpus": f"{corpus['directory']}, hash {corpus['hash'][:12]}, {size}",
        "seed": str(report["settings"]["seed"]),
        "settings": ", ".join(_flat(report["settings"])),
        "machine": f"{environment['machine']}{device}; {report['processes']} process(es)",
        "versions": ", ".join(f"{name} {number}" for name, number in environment["versions"].items()),
        "time": ", ".join(f"{group} {seconds:.1f} s" for group, seconds in report["seconds"].items()),
    }
    return table(["what", "value"], [[name, literal(value)] for name, value in facts.items()])


def _flat(settings: dict[str, Any], prefix: str = "") -> list[str]:
    """Nested settings as "group.name=value"."""
    parts = [
        _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}={value}"]
        for name, value in settings.items()
    ]
    return [each for part in parts for each in part]
