# make demo: the method in ten minutes.   make figures: the thesis's figures of vectors.   make test: the test suite.
# They install what they need into .venv.
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo figures test slow lint clean

demo: $(INSTALLED)
	$(BIN)/python launch/demo.py

# Into figures/; what is finished there is not done again.
figures: $(INSTALLED)
	$(BIN)/python eval/figures.py

# A process for each core, each with one thread; a file's tests stay together and share what they build.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(INSTALLED): pyproject.toml constraints.txt launch/install.sh
	sh launch/install.sh $(VENV)
	touch $@

clean:
	rm -rf $(VENV) demo dist build
