# make demo and make test each work alone on a fresh clone; what they need is make and Python 3.11 or newer with venv.
# No compiler is required: torch asks for one only at run time, for `--compile`, and sam2, which is built here, leaves out its CUDA extension.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# PYTHON=/path/to/python3 overrides the search. Both are looked up only when .venv has to be made.
CANDIDATES = $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
FOUND = $(shell for p in $(CANDIDATES); do "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$p" && break; done)
HAS_VENV = $(shell "$(FOUND)" -c 'import venv, ensurepip' >/dev/null 2>&1 && echo yes)
NO_PYTHON = no Python 3.11 or newer (tried: $(CANDIDATES)); install one, or name it: make PYTHON=/path/to/python3
NO_VENV = $(FOUND) lacks venv or ensurepip; install them (Debian, Ubuntu: apt install python3-venv), or name another: make PYTHON=/path/to/python3

TINY_VIT = --from-scratch vit_tiny_patch16_224 --arch-args patch_size=8,embed_dim=160,depth=6,num_heads=5 --size 64 \
	--teacher resnet10t --teacher-args "channels=(32,64,128,256)" --teacher-steps 2000 --steps 7000 -b 64 --lr 0.0015 --warmup 150 \
	--augment strong --ema 0.999 --eval-every 1750 --seed 1 --half
TINY_SAM2_1 = --steps 12000 --encoder-steps 7500 --image-steps 4500 --images 8 --objects 3 --clicks 1 --lr 0.002 --half --seed 14
TINY_SAM2_2 = --model ./tiny-sam2-1 --steps 2100 --image-steps 0 --images 8 --clips 6 --frames 4 --objects 3 --clicks 1 --lr 0.001 --warmup 50 --half --seed 15
TINY_SAM2_3 = --model ./tiny-sam2-2 --steps 5000 --image-steps 0 --images 8 --clips 4 --frames 6 --objects 3 --clicks 1 --lr 0.0008 --warmup 50 --half --seed 16
TINY_SAM2_4 = --model ./tiny-sam2-3 --steps 3000 --image-steps 0 --images 8 --clips 4 --frames 6 --objects 3 --clicks 1 --lr 0.0006 --warmup 50 --half --seed 17
TINY_SAM2_5 = --model ./tiny-sam2-4 --steps 4500 --image-steps 0 --images 8 --clips 4 --frames 6 --objects 3 --clicks 1 --lr 0.0006 --warmup 50 --half --seed 19
TINY_DIFFUSION = --steps 5600 --pictures 16384 --calm-after 0 --seed 1 --half
TINY_LVM_1 = --vqgan-steps 8000 --steps 0
TINY_LVM_2 = --vqgan tiny-lvm-1 --steps 2600 -b 2 --lr 0.001 --half
TINY_LVM_3 = --model ./tiny-lvm-2 --steps 1500 -b 4 --lr 0.0006 --seed 2 --half
TINY_LVM_4 = --model ./tiny-lvm-3 --steps 2500 -b 4 --lr 0.0008 --seed 3 --half
TINY_LVM_5 = --model ./tiny-lvm-4 --steps 1500 -b 4 --lr 0.0008 --seed 4 --half --dtype bf16
TINY_LVM_6 = --model ./tiny-lvm-5 --steps 0 --decoder-steps 7000 --vqgan-batch 16 --seed 5 --half

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench retrain clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST)

demo: $(STAMP)  ## classify the example photos
	@echo "==> classifying the photos in examples/photos"
	$(BIN)/visiontk classify examples/photos --format table

test: $(STAMP)  ## run the tests
	@echo "==> running the tests"
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(STAMP)  ## check style, format and types
	@echo "==> checking style, format and types"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## measure speed and memory, side by side with other tools
	@echo "==> measuring speed and memory"
	$(BIN)/python -m benchmarks.classify
	$(BIN)/python -m benchmarks.segment
	$(BIN)/python -m benchmarks.generate
	$(BIN)/python -m benchmarks.lvm

# With the options that the cards of the bundled models state, but by today's trainings: tiny-sam2 and tiny-lvm learned by AdamW then and learn
# by Muon now, and the VQGAN for decibels, so what comes of it is other weights, which nobody has measured. Each run goes on where it was
# stopped. Then copy the model's files and the card to visiontk/weights/NAME/
retrain: $(STAMP)  ## train the bundled models from nothing, which takes hours on two cores
	@echo "==> training tiny-vit"
	mkdir -p build/retrain
	cd build/retrain && ../../$(BIN)/visiontk train classify tiny $(TINY_VIT) -o tiny-vit
	@echo "==> training tiny-sam2"
	cd build/retrain && ../../$(BIN)/visiontk train segment tiny $(TINY_SAM2_1) -o tiny-sam2-1
	cd build/retrain && ../../$(BIN)/visiontk train segment tiny $(TINY_SAM2_2) -o tiny-sam2-2
	cd build/retrain && ../../$(BIN)/visiontk train segment tiny $(TINY_SAM2_3) -o tiny-sam2-3
	cd build/retrain && ../../$(BIN)/visiontk train segment tiny $(TINY_SAM2_4) -o tiny-sam2-4
	cd build/retrain && ../../$(BIN)/visiontk train segment tiny $(TINY_SAM2_5) -o tiny-sam2
	@echo "==> training tiny-diffusion"
	cd build/retrain && ../../$(BIN)/visiontk train generate tiny $(TINY_DIFFUSION) -o tiny-diffusion
	@echo "==> training tiny-lvm"
	cd build/retrain && ../../$(BIN)/visiontk train lvm tiny $(TINY_LVM_1) -o tiny-lvm-1
	cd build/retrain && ../../$(BIN)/visiontk train lvm tiny $(TINY_LVM_2) -o tiny-lvm-2
	cd build/retrain && ../../$(BIN)/visiontk train lvm tiny $(TINY_LVM_3) -o tiny-lvm-3
	cd build/retrain && ../../$(BIN)/visiontk train lvm tiny $(TINY_LVM_4) -o tiny-lvm-4
	cd build/retrain && ../../$(BIN)/visiontk train lvm tiny $(TINY_LVM_5) -o tiny-lvm-5
	cd build/retrain && ../../$(BIN)/visiontk train lvm tiny $(TINY_LVM_6) -o tiny-lvm

clean:  ## remove .venv, builds and caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .bench
	find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	$(if $(FOUND),,$(error $(NO_PYTHON)))
	$(if $(HAS_VENV),,$(error $(NO_VENV)))
	@echo "==> making $(VENV) with $(FOUND); the first time takes a few minutes"
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || "$(FOUND)" -m venv --clear $(VENV)
	@echo "==> installing uv"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@echo "==> installing visiontk and its dependencies, byte-compiled"
	SAM2_BUILD_CUDA=0 $(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -c constraints.txt --build-constraints constraints.txt -e '.[dev]'
	@touch $@
