"""The page of a report, as Markdown, from the content of its `report.json`."""

import math
from typing import Any

from smim.evaluation.groups import definition, headlines
from smim.evaluation.markup import code, literal, prose, rounded, table, with_error
from smim.evaluation.reference import name_of
from smim.vectors.corpus import KIND

_OTHER_PRIORS = {
    "nll_elbo": "`nll_elbo` (the model's own prior)",
    "nll_iw": "`nll_iw` (the model's own prior, importance-weighted)",
    "nll_train_prior": "`nll_train_prior` (the aggregate posterior of training sentences)",
}


def as_markdown(report: dict[str, Any]) -> str:
    """At a glance, then every section, what MELBO is, and where the numbers come from."""
    blocks = [*_heading(report), *_at_a_glance(report)]
    for key, section in report["sections"].items():
        blocks += _section(report, key, section)
    if "nll" in report["metrics"]:
        blocks += ["## What MELBO is, and is not", *_what_melbo_is(report)]
    blocks += ["## Provenance", _provenance(report)]
    return "\n\n".join(blocks) + "\n"


def _heading(report: dict[str, Any]) -> list[str]:
    model, corpus = report["model"], report["corpus"]
    trained = f" on {literal(model['trained_on'])}" if model.get("trained_on") else ""
    evaluated = _evaluated(corpus) + (
        f"The model: {model['parameters']:,} parameters, {model['latent_dim']} latent dimensions; "
        f"trained{trained} for {model['step']:,} steps ({model['epoch']} epochs)."
    )
    return [f"# {literal(name_of(report))} on {literal(corpus['name'])}, {literal(corpus['split'])}", evaluated]


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
        text += f"Unknown to the model are {corpus['unknown_share']:.2%} of the tokens. "
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
        rows.append([code(each.name), ours, *_beside(report, each.name), each.unit])
    if not rows:
        return []
    settings = report["settings"]
    drawn = f"Seed {settings['seed']}"
    if not _of_vectors(report):
        drawn += (
            f"; repetitions with fresh noise: {settings['num_runs']}; longest decode: {settings['max_length']} tokens"
        )
    explained = (
        "± is the standard error over the items evaluated (N in the tables below), not over trainings: the model is "
        f"one training. {drawn}."
    )
    sources = list(report["published"])
    return ["## At a glance", table(["metric", "ours", *sources, "unit"], rows, optional=sources), explained]


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
        sources = list(report["published"])
        header = ["metric", "ours", "standard error", "stdev over runs", "N", *sources, "unit", "meaning"]
        blocks.append(table(header, rows, optional=("stdev over runs", "unit", *sources)))
    for each in section["tables"]:
        cells = [[literal(cell) for cell in row] for row in each["rows"]]
        blocks += [f"### {prose(each['title'])}", table([prose(name) for name in each["header"]], cells)]
    for name, caption in section["plots"].items():
        blocks += [f"![{prose(caption)}](plots/{name})", f"*{prose(caption)}*"]
    return blocks


def _metric_row(report: dict[str, Any], name: str) -> list[str]:
    metric, defined = report["metrics"][name], definition(name)
    value, error = rounded(metric["value"], metric["standard_error"])
    _, stdev = rounded(metric["value"], metric["stdev_over_runs"])
    meaning = defined.meaning + (f" ({defined.equation})" if defined.equation else "")
    meaning += f"; {defined.better} is better" if defined.better else ""
    return [code(name), value, error, stdev, str(metric["n"]), *_beside(report, name), defined.unit, prose(meaning)]


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
        "itself, so that it measures how well each code tells its sentence apart from the others of this set. "
        f"A perfect autoencoder scores log N = {math.log(num):.2f} nats here, whatever the text. The bound is "
        "transductive, since its prior has seen the sentences that it is scored on, and it grows with log N. "
        "It is not the probability of unseen text, and its perplexity is not comparable to a language model's.",
        known,
        f"Perplexities are per token of this model's tokenizer ({report['corpus']['tokens_per_sentence']:.1f} tokens a "
        "sentence here): never compare them across tokenizers.",
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
