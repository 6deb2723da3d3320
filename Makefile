# SPDX-License-Identifier: Apache-2.0
#
# The front door: everything a newcomer needs is a target here ("make help" lists them). The work
# is done by meson and ninja in build/, by the scripts in tools/ and by tests/run.py.
BUILD := build
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60
TESTS ?=
export CMD ?=

# One thing at a time: ninja and the kernel's build use all processors by themselves.
.NOTPARALLEL:
.DEFAULT_GOAL := all
.PHONY: help all deps deps-test programs kernel check test lab lint fuzz bench run install clean

help: ## show this list
	@echo "usage: make [TARGET]        (no target: all)"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | while IFS='|' read -r t d; do \
		printf '  %-12s %s\n' "$$t" "$$d"; done

all: deps programs kernel ## build everything: build/smolvm is then ready to use

deps: ## install the packages that building and running need (Debian, Ubuntu)
	@tools/deps.sh build run kernel

deps-test:
	@tools/deps.sh build run kernel test

$(BUILD)/build.ninja:
	@mkdir -p $(BUILD)
	@meson setup $(BUILD) --prefix=$(abspath $(PREFIX)) --libdir=lib \
		>$(BUILD)/setup.log 2>&1 || \
		{ cat $(BUILD)/setup.log; exit 1; }

# The programs find each other and the kernel beside themselves, hence the links.
programs: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet
	@ln -f $(BUILD)/src/cli/smolvm $(BUILD)/smolvm
	@ln -f $(BUILD)/src/vmmproc/smolvm-vmm $(BUILD)/smolvm-vmm

kernel: $(BUILD)/vmlinux

$(BUILD)/vmlinux: guest/kernel/build.sh guest/kernel/smolvm.config \
		$(wildcard guest/kernel/patches/*)
	@guest/kernel/build.sh $@

check: deps programs ## the tests that need no virtual machine (one or two minutes)
	@tests/run.py static unit cli $(TESTS)

test: deps-test programs kernel ## all tests
	@tests/run.py $(TESTS)

lab: deps-test programs kernel ## what needs KVM, in a machine that has it (CMD='...': any command)
	@if [ -n "$$CMD" ]; then tools/lab.sh sh -c "$$CMD"; else tests/run.py lab; fi

lint: deps-test programs ## clang-tidy, cppcheck, shellcheck, our own checks, sanitizers
	@tests/run.py static lint asan tsan

fuzz: deps-test ## run each fuzz target for FUZZ_SECONDS (60)
	@tools/fuzz.sh $(FUZZ_SECONDS)

bench: deps-test programs kernel ## measure, side by side with what one would use instead
	@tests/bench/bench.py

run: all ## build, then run a first command in a virtual machine
	@tools/first-run.sh $(BUILD)/smolvm

install: ## install what "make" has built, under DESTDIR and PREFIX (/usr/local)
	@test -x $(BUILD)/smolvm && test -f $(BUILD)/vmlinux || \
		{ echo "make install: nothing is built yet; run 'make' first" >&2; exit 1; }
	@meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX))
	@ninja -C $(BUILD) --quiet
	@DESTDIR='$(DESTDIR)' meson install -C $(BUILD) --no-rebuild --quiet
	@install -D -m 0644 $(BUILD)/vmlinux '$(DESTDIR)$(abspath $(PREFIX))/lib/smolvm/vmlinux'
	@[ -n '$(DESTDIR)' ] || ldconfig 2>/dev/null || true
	@echo "installed: $(DESTDIR)$(abspath $(PREFIX))/bin/smolvm"

clean: ## remove what was built here (the guest kernel stays in its cache)
	rm -rf $(BUILD) build-asan build-clang build-fuzz build-tsan
