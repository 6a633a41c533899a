# make demo: the method in ten minutes.   make test: the test suite.   Both install what they need into .venv.
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test slow lint clean

demo: $(INSTALLED)
	$(BIN)/python launch/demo.py

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
