# make demo: the method in minutes.   make figures: the thesis's figures of vectors.   make test: the test suite.
# make docs: the documentation, into build/site.   make results NAME=...: a file of results/ again, from the raw corpora.
# They install what they need into .venv.
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DOCS := $(VENV)/.installed-docs

.PHONY: demo figures docs results scale notebooks test slow lint audit clean

demo: $(INSTALLED)
	$(BIN)/python launch/demo.py

# Into figures/; what is finished there is not done again.
figures: $(INSTALLED)
	$(BIN)/python eval/figures.py

# From the corpora in $SMIM_DATA; with SEED=N, the same training with another random seed. results/README.md explains it.
results: $(INSTALLED)
	$(BIN)/python results/reproduce.py $(NAME) $(if $(SEED),--seed $(SEED))

# Warnings are errors: a link that leads nowhere is one. To read it: open build/site/index.html in a browser.
docs: $(INSTALLED_DOCS)
	$(BIN)/sphinx-build -q -j auto -W --keep-going -c docs -d build/doctrees . build/site

# From text to answers at three sizes, with two processes of one thread; after an interruption it continues.
scale: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/pipeline.py $(or $(SENTENCES),1000000 3000000 10000000) -o scale

# Executes examples/*.ipynb and writes them anew, with their outputs.
notebooks: $(INSTALLED)
	$(BIN)/python launch/notebooks.py

# A process for each core, each with one thread; a file's tests stay together and share what they build.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Known vulnerabilities of the tested versions, and of the lowest that pyproject.toml admits; asks PyPI.
audit: $(INSTALLED)
	mkdir -p build
	$(BIN)/uvx pip-audit --strict --disable-pip --no-deps -r constraints.txt
	$(BIN)/uv pip compile -q --all-extras --no-deps --resolution lowest pyproject.toml -o build/lowest.txt
	$(BIN)/uvx pip-audit --strict --disable-pip --no-deps -r build/lowest.txt

$(INSTALLED): pyproject.toml constraints.txt launch/install.sh
	sh launch/install.sh $(VENV)
	touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	SMIM_EXTRAS=docs sh launch/install.sh $(VENV)
	touch $@

clean:
	rm -rf $(VENV) demo dist build
