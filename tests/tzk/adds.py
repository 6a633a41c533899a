"""Adds a label to a TzK directory: `python adds.py DIR MODEL CORPUS LABEL`, to be killed."""

import sys

import smim
from smim.text.corpus import Corpus
from smim.tzk import FitArgs, KnowledgeArgs, open_tzk

if __name__ == "__main__":
    directory, model, corpus, label = sys.argv[1:]
    tzk = open_tzk(directory, model=smim.load(model))
    args = KnowledgeArgs(code_dim=2, num_coupling_layers=2, hidden_dim=8)
    tzk.add(Corpus.open(corpus), label, args=args, fit=FitArgs(num_optimizer_steps=10))
