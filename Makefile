# SPDX-License-Identifier: GPL-2.0
# Syscall User Dispatch in Rust: the front door. What the targets do is in
# scripts/; what they mean is in 'make help'.

TOP := $(CURDIR)
BUILD := $(abspath $(or $(O),build))
export TOP BUILD KDIR J PATCH MATRIX MUTANT
# As it was typed, for the shell of the guest.
override export CMD := $(value CMD)
# An empty RUSTC would be a program to cargo.
$(foreach tool,RUSTC BINDGEN LLVM,$(if $($(tool)),$(eval export $(tool))))
export PATH := $(BUILD)/bin:$(PATH)
# Kbuild has variables of the same names; ours reach it through the scripts.
unexport O MAKEOVERRIDES
MAKEFLAGS += --no-print-directory

# KERNEL=upstream stands for the unpatched kernel wherever one is booted,
# KERNEL=c for the patched one with the implementation in C, and KERNEL=debug for
# the one that watches itself.
KERNEL ?= ours
image.ours := $(BUILD)/bzImage
image.upstream := $(BUILD)/bzImage.upstream
image.c := $(BUILD)/bzImage.c
image.debug := $(BUILD)/bzImage.debug
image = $(or $(image.$(KERNEL)),$(error KERNEL=$(KERNEL) is none of ours, upstream, c, debug))

demo := $(BUILD)/kernel/ours/samples/syscall_user_dispatch/personality

# The directories that mirror the kernel tree.
mirrored := $(wildcard Documentation arch include kernel rust samples tools)
export MIRRORED := $(mirrored)
series := $(shell find patches/*/*.patch $(mirrored)) scripts/series.sh scripts/overlay.sh

define help
  make run                 the demonstration on the patched kernel, from nothing
  make test                all tests; the closing line counts them
  make shell               a shell in the patched kernel, over this machine's files
  make exec CMD='...'      one command in it: its output, its exit status

  make build               only build it: build/bzImage, build/vmlinux
  make check               static checks
  make kunit               the policy's unit tests, in the guest
  make kselftest           upstream's selftests and ours, in the guest
  make differential        random programs on ours, on C and on upstream's (SEED=, OPS=)
  make bench               what each path costs, compared with C and with upstream
  make docs                the admin guide's page, as HTML
  make rustdoc             the code's documentation, private items included
  make menuconfig          the options of our kernel: implementation, tests, debugging
  make patches             the two series, ready to send
  make patches-bisect      each patch builds and boots, option on and off: over an hour
                           (PATCH=fixes/N or rust/N)
  make million             a million operations of random programs
  make debug               tests, and allocations that fail, on a kernel with KASAN,
                           UBSAN, lockdep and the like, whose log must stay clean
  make mutants             mistakes made on purpose, one by one, for the tests to find;
                           over an hour; goes on where it was stopped (MUTANT= part of a name)
  make matrix              what the series touch, built in 65 configurations; an hour;
                           goes on where it was stopped (MATRIX= a pattern of names)
  make test-all            test, million, debug, matrix, mutants: four hours
  make clean               remove build/
  make distclean           remove the downloads and built tools as well

  KERNEL=upstream          (shell, exec, kselftest) the unpatched kernel instead;
  KERNEL=c                 the patched one with the implementation in C
  KERNEL=debug             the patched one that watches itself
  KDIR=/path               a kernel tree of your own; it is only read
  J=N                      jobs; O=, RUSTC=, BINDGEN=, LLVM= as in the kernel
endef
export help

.DELETE_ON_ERROR:
.SECONDEXPANSION:
.NOTPARALLEL:
.PHONY: run build build-upstream test check kunit kselftest differential bench image shell exec \
	million debug matrix mutants test-all docs rustdoc patches patches-bisect menuconfig help clean distclean

run: $(BUILD)/bzImage
	@O=$(BUILD) ./guest $(demo)

help:
	@echo "$$help"

build: $(BUILD)/bzImage
build-upstream: $(BUILD)/bzImage.upstream

image: $$(image)

# For those who want no more: ./guest does it, with options.
shell:
	@O=$(BUILD) ./guest -k $(KERNEL)

exec:
	@[ -n "$$CMD" ] || { echo "error: nothing to run; say for example: make exec CMD='uname -r'" >&2; exit 2; }
	@O=$(BUILD) ./guest -k $(KERNEL) -t 600 -- sh -c "$$CMD"

# Each step leaves a stamp. A tree of the user's own is looked at each time, and
# left again when it is no longer named.
$(BUILD)/.setup: scripts/setup.sh scripts/lib.sh
	@scripts/setup.sh
	@touch $@

$(BUILD)/.source: $(BUILD)/.setup scripts/source.sh $(if $(KDIR)$(shell cat $(BUILD)/.kdir 2>/dev/null),FORCE)
	@scripts/source.sh
	@touch $@

$(BUILD)/.series: $(BUILD)/.source $(series)
	@scripts/series.sh
	@touch $@

# What 'make menuconfig' chose stands for configs/ours.config, as long as it is there.
ours := $(TOP)/configs/base.config $(or $(wildcard $(BUILD)/menu.config),$(TOP)/configs/ours.config)
$(BUILD)/bzImage: $(BUILD)/.series $(ours) scripts/kernel.sh \
	$(shell cat $(ours) | cmp -s - $(BUILD)/kernel/ours/.fragments || echo FORCE)
	@scripts/kernel.sh ours $(BUILD)/linux $(ours)
	@ln -sfn kernel/ours/vmlinux $(BUILD)/vmlinux
	@ln -sfn kernel/ours/arch/x86/boot/bzImage $@ && touch $@

$(BUILD)/bzImage.upstream: $(BUILD)/.source $(TOP)/configs/base.config scripts/kernel.sh
	@scripts/kernel.sh upstream $(BUILD)/pristine $(TOP)/configs/base.config
	@ln -sfn kernel/upstream/vmlinux $(BUILD)/vmlinux.upstream
	@ln -sfn kernel/upstream/arch/x86/boot/bzImage $@ && touch $@

# Built like ours but for one option.
$(BUILD)/bzImage.c: $(BUILD)/bzImage $(TOP)/configs/c.config
	@LIKE=ours scripts/kernel.sh c $(BUILD)/linux $(TOP)/configs/base.config $(TOP)/configs/c.config
	@ln -sfn kernel/c/arch/x86/boot/bzImage $@ && touch $@

# Rust with KASAN takes clang.
debug-build := debug $(BUILD)/linux $(patsubst %,$(TOP)/configs/%.config,base ours debug)
$(BUILD)/bzImage.debug: $(BUILD)/.series $(wordlist 3,5,$(debug-build)) scripts/kernel.sh
	@LLVM=1 scripts/kernel.sh $(debug-build)
	@ln -sfn kernel/debug/vmlinux $(BUILD)/vmlinux.debug
	@ln -sfn kernel/debug/arch/x86/boot/bzImage $@ && touch $@

# The results of all tests are KTAP in build/results: of the host, and of each
# kernel. The closing line counts what is in there.
results := $(BUILD)/results
# Upstream's own tests of the mechanism, and ours beside them. Auditing, once it was
# on, stays on for all that follows: ours are last.
selftests := ptrace:get_set_sud syscall_user_dispatch
# Upstream's tests of what else lies on the road of a syscall: none may do worse
# on our kernel than on upstream's.
neighbours := seccomp ptrace x86 rseq
# The same random programs on each kernel.
SEED ?= 1
OPS ?= 100000
random = differential:$(SEED):$(OPS)

# Programs of ours, each a directory or a file of scripts/.
$(BUILD)/bin/bench $(BUILD)/bin/differential $(BUILD)/bin/mutants: $(BUILD)/bin/%: $$(wildcard scripts/%/*.rs) $(BUILD)/.setup
	@rustc --edition 2021 -O -o $@ scripts/$*/main.rs
$(BUILD)/bin/report: scripts/report.rs $(BUILD)/.setup
	@rustc --edition 2021 -O -o $@ $<

# The programs of the workspace.
$(BUILD)/bin/guest: Cargo.toml Cargo.lock $(shell find host -name '*.rs' -o -name Cargo.toml) $(BUILD)/.setup
	@scripts/host.sh
	@touch $@

# A user of the mechanism in Rust.
$(BUILD)/bin/rustix: $(wildcard examples/rustix/*) $(BUILD)/.setup
	@scripts/example.sh rustix
	@touch $@

# The selftests of the patched tree, upstream's among them, as lib.mk installs them.
$(BUILD)/kselftest/run_kselftest.sh: $(BUILD)/bzImage scripts/kselftest.sh
	@scripts/kselftest.sh syscall_user_dispatch $(neighbours)

# guest,NAME,SUITES: boots one guest, which leaves what each suite said, in place of
# what is there. NAME is that of the kernel, or "ours-smp" for two processors, Intel's
# this time, whose 32-bit programs enter the kernel by SYSENTER and not by SYSCALL.
guest = rm -rf $(results)/$(1) && mkdir -p $(results)/$(1) && \
	GUEST_QUIET=1 GUEST_LOG=$(1) GUEST_TIMEOUT=$(patience) GUEST_RW=$(results)/$(1) \
	$(if $(filter %-smp,$(1)),GUEST_CPUS=2 GUEST_QEMU="-cpu qemu64$(comma)vendor=GenuineIntel") \
	GUEST_APPEND="kunit.enable=1 kunit.filter_glob=syscall_user_dispatch" \
	scripts/guest.sh $(image.$(1:-smp=)) "$(TOP)/scripts/in-guest.sh $(results)/$(1) $(2)" || \
	echo "error: the guest ($(1)) broke off; what is missing counts as failed" >&2
comma := ,
# After how many seconds it hangs.
patience := 2400
million debug: patience := 7200
# taps,NAME,SUITES: where that is; what is not there has failed. On upstream's kernel
# our tests of what it gets wrong have to fail, and there alone.
taps = $(foreach suite,$(2),$(call tap,$(1)/$(firstword $(subst :, ,$(suite)))))
tap = $(results)/$(1).tap$(if $(filter upstream/syscall_user_dispatch,$(1)),!scripts/upstream-fails)

kunit-parse = $(BUILD)/linux/tools/testing/kunit/kunit.py parse $(results)/ours/kunit.tap || true
guest-run = mkdir -p $(results)/host && scripts/guest-test.sh >$(results)/host/guest.tap || true
check-run = mkdir -p $(results)/host && scripts/check.sh >$(results)/host/check.tap || true
# beside,COMMAND,COMMAND: both at a time. What runs in the background does not hear
# Ctrl-C, so it is told.
beside = trap 'trap - INT; kill 0' INT; { $(1); } & { $(2); } & wait
# differential-compare,KERNEL: with C, from which nothing differs, and with upstream's,
# from which only deviations do.
differential-compare = mkdir -p $(results)/host && { cd $(results) && \
	differential compare --same $(1)/differential.txt c/differential.txt >host/differential-c.tap; \
	differential compare $(1)/differential.txt upstream/differential.txt >host/differential-upstream.tap; true; }
differentials := differential-c differential-upstream
bench = scripts/bench.sh $(image.upstream) $(image.c) $(image.ours)
bench-guard = mkdir -p $(results)/host && \
	{ $(bench) --bounds scripts/bench.bounds >$(results)/host/bench.tap; true; }

# Two guests at a time: ours, then ours with two processors; beside them upstream's,
# then the implementation in C.
suites := $(neighbours) syscall_user_dispatch
smp := stress stress-ng syscall_user_dispatch:entry_paths_32
test: $(BUILD)/bzImage $(BUILD)/bzImage.c $(BUILD)/bzImage.upstream $(BUILD)/kselftest/run_kselftest.sh \
	$(BUILD)/bin/report $(BUILD)/bin/bench $(BUILD)/bin/differential $(BUILD)/bin/rustix $(BUILD)/bin/guest
	@rm -rf $(results)
	@$(check-run)
	@echo "==> running commands in guests, in all the ways they may end (3 to 8 minutes)" >&2
	@$(guest-run)
	@$(bench-guard)
	@echo "==> testing on three kernels, two guests at a time (15 to 25 minutes)" >&2
	@$(call beside,$(call guest,ours,kunit samples $(random) $(suites)); $(call guest,ours-smp,$(smp)),\
		$(call guest,upstream,$(random) $(suites)); $(call guest,c,$(random) $(selftests)))
	@$(kunit-parse)
	@$(call differential-compare,ours)
	@report $(call taps,host,check guest bench $(differentials)) $(call taps,ours,kunit samples syscall_user_dispatch) \
		$(call taps,ours-smp,$(smp)) $(call taps,c,$(selftests)) $(call taps,upstream,syscall_user_dispatch) \
		$(join $(call taps,ours,$(neighbours)),$(addprefix =,$(call taps,upstream,$(neighbours))))

check: $(BUILD)/bzImage $(BUILD)/bin/report
	@$(check-run)
	@report $(results)/host/check.tap

kunit: $(BUILD)/bzImage $(BUILD)/bin/report
	@$(call guest,ours,kunit)
	@$(kunit-parse)
	@report $(results)/ours/kunit.tap

kselftest: $$(image) $(BUILD)/kselftest/run_kselftest.sh $(BUILD)/bin/report
	@$(call guest,$(KERNEL),$(selftests))
	@report $(call taps,$(KERNEL),$(selftests))

million: OPS := 1000000
differential million: $(BUILD)/bzImage $(BUILD)/bzImage.c $(BUILD)/bzImage.upstream \
	$(BUILD)/bin/differential $(BUILD)/bin/report
	@$(call beside,$(call guest,ours,$(random)),$(call guest,upstream,$(random)); $(call guest,c,$(random)))
	@$(call differential-compare,ours)
	@cat $(call taps,host,$(differentials))
	@report $(call taps,host,$(differentials))

# The debug kernel does a share of everything, and its log must stay clean. That
# this would be noticed otherwise is seen on one that is broken on purpose.
debug-suites := kunit samples injection $(selftests)
debug: results := $(BUILD)/results/debug
debug: OPS := 5000
debug: $(BUILD)/bzImage.debug $(BUILD)/bzImage.c $(BUILD)/bzImage.upstream $(BUILD)/kselftest/run_kselftest.sh \
	$(BUILD)/bin/report $(BUILD)/bin/differential $(BUILD)/bin/rustix
	@rm -rf $(results)
	@echo "==> testing on the debug kernel (about 15 minutes)" >&2
	@$(call beside,$(call guest,debug,$(random) $(debug-suites)),\
		$(call guest,upstream,$(random)); $(call guest,c,$(random)))
	@$(call differential-compare,debug)
	@scripts/console.sh $(BUILD)/log/console-debug.log >$(results)/host/console.tap
	@LLVM=1 scripts/broken.sh $(debug-build) >$(results)/host/broken.tap || true
	@cat $(results)/host/console.tap $(results)/host/broken.tap
	@report $(call taps,host,$(differentials) console broken) $(call taps,debug,$(debug-suites))

bench: $(BUILD)/bzImage $(BUILD)/bzImage.c $(BUILD)/bzImage.upstream $(BUILD)/bin/bench
	@$(bench)

docs: $(BUILD)/.series
	@scripts/docs.sh

rustdoc: $(BUILD)/bzImage
	@scripts/rustdoc.sh
	@echo "==> open $(BUILD)/docs/rust/user_dispatch/index.html" >&2

menuconfig: $(BUILD)/.series
	@scripts/menuconfig.sh

patches: $(BUILD)/.series
	@scripts/patches.sh

patches-bisect: $(BUILD)/bzImage
	@scripts/bisect.sh $(demo)

mutants: $(BUILD)/bzImage $(BUILD)/kselftest/run_kselftest.sh $(BUILD)/bin/mutants
	@scripts/mutants.sh $(BUILD)/bin/mutants

# The code in other configurations than the project's own.
matrix: $(BUILD)/.series $(BUILD)/bin/report
	@mkdir -p $(results)/host && scripts/matrix.sh >$(results)/host/matrix.tap
	@report $(results)/host/matrix.tap

test-all: test million debug matrix mutants

clean:
	@rm -rf $(BUILD)

distclean: clean
	@rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/syscall-user-dispatch"

FORCE:
