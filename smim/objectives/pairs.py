"""A term for pairs of sentences (paraphrases, questions and answers, neighbours in a text) from a second column."""

from dataclasses import dataclass
from typing import Any

from smim.objectives.contrast import cosines, discrimination
from smim.objectives.draw import Addition, Draw, Terms
from smim.schema import bounded


@dataclass(frozen=True)
class Pairs(Addition):
    """The term -log p(y|z), where y is the other sentence of x's pair.

    `loss`: `contrast` identifies y among the second sentences of a process's batch. It uses cosines between the meaning
    part of z and those of the means of q(z|y). The term is the mean of `discrimination` in both directions, with
    `temperature`. `likelihood` is the probability of the words of y, given z, by the model's own decoder. If z has a
    meaning part, the decoder gets only that part. `both` is the sum.
    """

    loss: str = bounded("contrast", among=["contrast", "likelihood", "both"])
    temperature: float = bounded(0.1, above=0)

    def lacks(self, batch: Any) -> str | None:
        if batch.pair is not None:
            return None
        return "a second sentence of each row: prepare the corpus with corpus.pair_column=NAME"

    def terms(self, draw: Draw) -> Terms:
        model, pair, terms = draw.model, draw.batch.pair, {}
        if self.loss != "likelihood":
            cosines_BB = cosines(draw.meaning, model.meaning(model.posterior(pair).mean))
            one_way, back = (discrimination(each, self.temperature) for each in (cosines_BB, cosines_BB.T))
            terms["pair_contrast"] = 0.5 * (one_way + back)
        if self.loss != "contrast":
            terms["pair_reconstruction"] = -model.log_likelihood_of_pair(pair, draw.z)
        return terms
