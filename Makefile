# make            the program, the library                     make check        install what is missing, all tests
# make demo       install what is missing, the main job        make check-peers  against Pillow, tokenizers, torch
# make install    PREFIX=/usr/local DESTDIR=                   make lint         include rules, formatting
# make check-faults   kills, power failures and damage by the hundred
# make SAN=asan|tsan check                                     make bench        ratios to peers and ceilings
# make experiments   small models from scratch, each way of training, an hour
# make CUDA=1       the backend for NVIDIA GPUs too, and what is missing for it; tools/check-gpu tries it on one

PREFIX ?= /usr/local
SAN ?=
BUILD ?= build$(if $(SAN),-$(SAN))
VENV ?= build/venv
VERSION := $(shell sed -n 's/.*ROT_VERSION "\(.*\)"/\1/p' include/rotoscope/rotoscope.h)

# Modules, each a folder; what a module's tests link follows the include rules (docs/how-it-works.md).
MODULES := base tokenizer renderer kernels encoder shards schemas pipeline trainer
DEPS_base := base
DEPS_tokenizer := tokenizer base
DEPS_renderer := renderer base
DEPS_kernels := kernels base
DEPS_encoder := encoder kernels base
DEPS_shards := shards base
DEPS_schemas := schemas pipeline shards encoder kernels renderer tokenizer base
DEPS_pipeline := schemas pipeline shards encoder kernels renderer tokenizer base
DEPS_trainer := trainer schemas pipeline shards encoder kernels renderer tokenizer base

PKGS := freetype2 harfbuzz fribidi fontconfig libpng libzstd lmdb libxxhash libcrypto zlib yaml-0.1 jansson \
        libpcre2-8 libutf8proc
CLI_PKGS := libmicrohttpd
HAVE_PKGS := $(shell pkg-config --exists $(PKGS) $(CLI_PKGS) 2>/dev/null && echo yes)
HAVE_DNNL := $(shell test -e /usr/include/oneapi/dnnl/dnnl.h && echo yes)

CC := gcc
CFLAGS ?= -O2 -g
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Wno-psabi
FLAGS := -std=c17 -D_GNU_SOURCE -fPIC -fopenmp -ffp-contract=off -fno-math-errno -I. -Iinclude $(WARN) \
         $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lm -lpthread -ldl
ifeq ($(HAVE_DNNL),yes)
FLAGS += -DROT_HAVE_ONEDNN
LIBS += -ldnnl
endif
ifeq ($(SAN),asan)
CFLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
else ifeq ($(SAN),ubsan)
CFLAGS := -O1 -g -fsanitize=undefined -fno-sanitize-recover=undefined
else ifeq ($(SAN),tsan)
# The combination that understands OpenMP: clang, libomp with archer, system libraries not instrumented.
CC := clang
CFLAGS := -O1 -g -fsanitize=thread
export TSAN_OPTIONS := ignore_noninstrumented_modules=1
endif

# The cuda backend's device half, a library of its own: wherever nvcc and cuBLASLt's header are found.
# cuBLASLt: CUBLAS_DIR, else the toolkit, else the PyPI package nvidia-cublas in $(VENV), where `make check` puts it.
NVCC ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
ifneq ($(NVCC),)
CUBLAS_DIR ?= $(firstword $(foreach d,$(patsubst %/bin/nvcc,%,$(shell readlink -f "$(NVCC)")) /usr/local/cuda \
              $(wildcard $(VENV)/lib/python3*/site-packages/nvidia/cu13),$(if $(wildcard $(d)/include/cublasLt.h),$(d))))
endif
CUDA_MISSING := $(if $(NVCC),$(if $(CUBLAS_DIR),,cublasLt.h (the toolkit's, or tools/install-cublas $(VENV), or \
                CUBLAS_DIR=)),nvcc (CUDA toolkit 13))
CUDA_LIB := $(if $(CUDA_MISSING),,$(BUILD)/librotoscope_cuda.so)
CUDA_ARCHS := 80 90 100
CUDA_FLAGS := -std=c++17 -O3 -fmad=false -diag-suppress 550 $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
              -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS)) \
              -Xcompiler -fPIC,-fvisibility=hidden,-Wall -Xptxas -warn-spills -I. -Iinclude
CUDA ?=

sources = $(wildcard $(1)/*.c $(1)/*/*.c $(1)/*.S)
objects = $(patsubst %,$(BUILD)/%.o,$(basename $(call sources,$(1))))
archives = $(foreach m,$(DEPS_$(1)),$(BUILD)/lib/$(m).a)
LIB_OBJS := $(foreach m,$(MODULES),$(call objects,$(m)))
CLI_OBJS := $(call objects,cli)
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
BENCH := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c))

all: packages-present $(BUILD)/rotoscope $(BUILD)/librotoscope.so $(BUILD)/librotoscope.a $(if $(CUDA),cuda)

packages-present:
ifneq ($(HAVE_PKGS),yes)
	@echo "rotoscope: libraries are missing: run 'make deps' (or install the packages of tools/packages.txt)" >&2; exit 1
endif
ifneq ($(HAVE_DNNL),yes)
	@echo "rotoscope: no oneDNN (libdnnl-dev): the onednn backend is off" >&2
endif

deps:
	@tools/install-deps

$(BUILD)/rotoscope: $(CLI_OBJS) $(BUILD)/librotoscope.a
	@echo "  ld $@"; $(CC) $(CFLAGS) -fopenmp -o $@ $^ $(LIBS) $(shell pkg-config --libs $(CLI_PKGS) 2>/dev/null)

$(BUILD)/librotoscope.a: $(LIB_OBJS)
	@rm -f $@
	@ar rcs $@ $^

$(BUILD)/librotoscope.so: $(LIB_OBJS)
	@echo "  ld $@"; $(CC) $(CFLAGS) -fopenmp -shared -Wl,-soname,librotoscope.so.0 -o $@ $^ $(LIBS)

cuda: $(CUDA_LIB)
ifneq ($(CUDA_MISSING),)
	@echo "rotoscope: not built for CUDA, for lack of $(strip $(CUDA_MISSING))" >&2; $(if $(CUDA),exit 1)
endif

# The libraries of a PyPI package have no name without a version: -l:. nvcc cuts a path with blanks in -rpath. Where a wheel is installed, they lie in
# nvidia/cu13 beside it.
$(BUILD)/librotoscope_cuda.so: kernels/cuda/device.cu $(wildcard kernels/cuda/*.h) include/rotoscope/error.h
	@mkdir -p $(@D)
	@echo "  nvcc $<"; at=$$(realpath -m "$(CUBLAS_DIR)"); \
	  LD_RUN_PATH="\$$ORIGIN:\$$ORIGIN/../nvidia/cu13/lib:$$at/lib64:$$at/lib" \
	  "$(NVCC)" $(CUDA_FLAGS) -I"$(CUBLAS_DIR)/include" -shared -o $@ $< \
	  -L"$(CUBLAS_DIR)/lib64" -L"$(CUBLAS_DIR)/lib" -l:libcublasLt.so.13

define module_archive
$(BUILD)/lib/$(1).a: $$(call objects,$(1))
	@mkdir -p $$(@D); rm -f $$@
	@ar rcs $$@ $$^
endef
$(foreach m,$(MODULES),$(eval $(call module_archive,$(m))))

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  cc $<"; $(CC) $(FLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/%.o: %.S
	@mkdir -p $(@D)
	@echo "  as $<"; $(CC) $(FLAGS) -c -o $@ $<

# tests/unit/test_MODULE.c or test_MODULE_WHAT.c links MODULE and what stands below it.
.SECONDEXPANSION:
$(BUILD)/tests/test_%: tests/unit/test_%.c $$(call archives,$$(firstword $$(subst _, ,$$*)))
	@mkdir -p $(@D)
	@echo "  ld $@"; $(CC) $(FLAGS) $(CFLAGS) -MMD -MP -MF $@.d -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS) -lcmocka

$(BUILD)/bench/%: bench/%.c $(BUILD)/librotoscope.a
	@mkdir -p $(@D)
	@echo "  ld $@"; $(CC) $(FLAGS) $(CFLAGS) -MMD -MP -MF $@.d -o $@ $< $(BUILD)/librotoscope.a $(LIBS)

test-%: # builds and runs the unit tests of one module
	@$(MAKE) --no-print-directory $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_$*.c tests/unit/test_$*_*.c))
	@set -e; for t in $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_$*.c tests/unit/test_$*_*.c)); do echo "== $$t"; $$t; done

# Preloaded by tests/faults: makes calls fail, logs writes and syncs.
$(BUILD)/tests/faults_shim.so: tests/faults/shim.c
	@mkdir -p $(@D)
	@echo "  cc $<"; $(CC) -std=c17 -D_GNU_SOURCE $(WARN) -O1 -shared -fPIC -o $@ $< -ldl -lpthread

# A device that computes on the processor; named by ROT_CUDA_LIB in tests.
$(BUILD)/tests/cuda_device.so: tests/faults/cuda_device.c
	@mkdir -p $(@D)
	@echo "  ld $@"; $(CC) $(FLAGS) $(CFLAGS) -O3 -MMD -MP -MF $@.d -shared -o $@ $< -lm
$(filter $(BUILD)/tests/test_kernels% $(BUILD)/tests/test_encoder%,$(UNIT)): | $(BUILD)/tests/cuda_device.so

tests: all $(if $(SAN),,cuda) $(UNIT) $(BUILD)/tests/faults_shim.so $(BUILD)/tests/cuda_device.so

cublas:
	@$(if $(NVCC),$(if $(CUBLAS_DIR),,tools/install-cublas $(VENV)))

check: deps cublas
	@$(MAKE) --no-print-directory -j$$(nproc) tests
	@BUILD=$(BUILD) SAN=$(SAN) tests/run

# 200 kills, 500 power failures and so on: minutes.
check-faults: deps
	@$(MAKE) --no-print-directory -j$$(nproc) tests
	@BUILD=$(BUILD) SAN=$(SAN) ROT_FAULTS=full tests/run tests/faults/*.sh

check-peers: deps
	@tools/install-peers $(VENV)
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@BUILD=$(BUILD) $(VENV)/bin/python -m pytest -q -p no:cacheprovider tests/peers

# Open MPI, a Slurm, a GlusterFS and an NFS of its own, in namespaces or a User Mode Linux that end with the test.
check-cluster: deps
	@tools/install-deps openmpi-bin slurmctld slurmd slurm-client munge iproute2 procps
	@tools/install-deps glusterfs-server || echo "rotoscope: no GlusterFS: not tried"
	@tools/install-deps user-mode-linux nfs-kernel-server kmod e2fsprogs || echo "rotoscope: no NFS: not tried"
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@BUILD=$(BUILD) tests/cluster/run

bench: all $(BENCH)

demo: deps
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@BUILD=$(BUILD) tools/demo

# Small models from scratch, an hour: docs/experiments.md.
experiments: all
	@BUILD=$(BUILD) tools/experiments

lint:
	@tools/lint

docs: all
	$(BUILD)/rotoscope doctor --config-doc > docs/config.md
	$(BUILD)/rotoscope doctor --config-schema > schemas/config.schema.json
	$(BUILD)/rotoscope train --keys > docs/train-keys.md

# .incbin does not show in the compiler's dependencies.
$(BUILD)/encoder/tokenizer_small.o: $(wildcard configs/tokenizer-small/*.json)

TO = $(DESTDIR)$(PREFIX)
install: all
	install -d "$(TO)/bin" "$(TO)/lib/pkgconfig" "$(TO)/include/rotoscope" "$(TO)/share/rotoscope/configs/sweeps"
	install -m 755 $(BUILD)/rotoscope "$(TO)/bin/"
	install -m 644 $(BUILD)/librotoscope.a "$(TO)/lib/"
	install -m 755 $(BUILD)/librotoscope.so "$(TO)/lib/librotoscope.so.0"
	$(if $(wildcard $(BUILD)/librotoscope_cuda.so),install -m 755 $(BUILD)/librotoscope_cuda.so "$(TO)/lib/")
	ln -sf librotoscope.so.0 "$(TO)/lib/librotoscope.so"
	install -m 644 include/rotoscope/*.h "$(TO)/include/rotoscope/"
	install -m 644 configs/*.yaml "$(TO)/share/rotoscope/configs/"
	install -m 644 configs/sweeps/*.yaml "$(TO)/share/rotoscope/configs/sweeps/"
	install -d "$(TO)/share/rotoscope/configs/train"
	install -m 644 configs/train/*.yaml "$(TO)/share/rotoscope/configs/train/"
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' tools/rotoscope.pc.in \
	  > "$(TO)/lib/pkgconfig/rotoscope.pc"

clean:
	rm -rf build/* build-asan build-tsan build-ubsan

.PHONY: all cuda cublas packages-present deps tests check check-faults check-peers check-cluster bench demo experiments lint docs install clean
.DELETE_ON_ERROR:
-include $(LIB_OBJS:.o=.d) $(CLI_OBJS:.o=.d) $(UNIT:=.d) $(BENCH:=.d) $(BUILD)/tests/cuda_device.so.d
