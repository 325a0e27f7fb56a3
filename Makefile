# make demo: which of VAE, GAN and VAE-GAN suits the digits?   make test: the whole suite.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
# Real data for the tests and benchmarks that want it (MNIST, CIFAR-10, ...); they skip, saying so, where it is absent.
export AMALGAN_TEST_DATA ?= $(abspath ../shared/data)

.PHONY: benchmarks demo test test-fast lint types results-images results-speed results-text results-graphs results-control results-series results-audio results-stability results-conditional results-processes gpu clean

$(VENV)/.installed: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "asked: $(PYTHON); found: none; instead: make PYTHON=/path/to/python3.11 (or newer)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/amalgan compare --data digits --recipes vae,gan,vaegan --seeds 3 --steps 1500 --out demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

# What benchmarks/ compares with; without dependencies, so that it runs on our torch and pulls in no other.
.rivals/.installed: benchmarks/requirements.txt $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .rivals -r $<
	@touch $@

# The thesis of the VAE-GAN, ring and grid, likelihoods: many CPU-hours, two processes side by side; stopped, it goes on.
results-images: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.toys
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.nll
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.thesis
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.frontier
	$(BIN)/python -m benchmarks.quotes

# SeqGAN against likelihood on languages that are known and on captions: about two CPU-hours, two processes.
results-text: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.text
	$(BIN)/python -m benchmarks.quotes

# GraphGAN against simpler scores of links: about four CPU-minutes, one process.
results-graphs: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.graphs
	$(BIN)/python -m benchmarks.quotes

# Imitation against cloning, five seeds each: about five CPU-minutes, one process.
results-control: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.control
	$(BIN)/python -m benchmarks.quotes

# Recurrent VAE, GAN, VAE-GAN and TimeGAN beside their baselines: about ten CPU-minutes, one process.
results-series: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.series
	$(BIN)/python -m benchmarks.quotes

# Spoken digits from the label, judged by what is heard, and the speed of reading: about three CPU-hours, two processes.
results-audio: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.sound
	$(BIN)/python -m benchmarks.quotes

# Models that are told labels, against the same without; attention against none; methods on CIFAR-10; faces: about twelve
# CPU-hours, two processes.
results-conditional: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.conditional
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.attention
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.cifar
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faces
	$(BIN)/python -m benchmarks.quotes

# Which divergence drops modes, what KL schedules do, whether the doctor is right, games by remedies on mixtures, stacked
# digits: about fifteen CPU-hours, two processes.
results-stability: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.divergences
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.schedules
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.doctor
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.remedies
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.stacked
	$(BIN)/python -m benchmarks.quotes

# What several processes send and hold: about four CPU-minutes, two processes.
results-processes: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.processes
	$(BIN)/python -m benchmarks.quotes

# Speed of training, judging and using against peers, sizes of images, a million of them; one CPU thread: about an hour.
results-speed: .rivals/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.judging
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.sizes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.quotes

benchmarks: results-speed

# Everything that needs a CUDA device: tests, then speed. Says so and stops where there is none.
gpu: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.gpu --check || exit 0; \
	timeout 240 $(BIN)/python -m pytest -m gpu; code=$$?; [ $$code -eq 0 ] || [ $$code -eq 5 ] || exit $$code; \
	timeout 340 $(BIN)/python -m benchmarks.gpu

clean:
	rm -rf $(VENV) .rivals demo build dist
