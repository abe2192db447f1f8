# SPDX-License-Identifier: GPL-2.0
# Syscall User Dispatch in Rust: what people call. What the targets do is in
# scripts/; what they mean is in 'make help'.

TOP := $(CURDIR)
BUILD := $(abspath $(or $(O),build))
export TOP BUILD KDIR J PATCH MATRIX MUTANT FRAGMENT CONFIG LOCAL
$(if $(filter-out 2,$(words $(TOP) $(BUILD)))$(findstring :,$(TOP)$(BUILD)),$(error \
	a space or a colon in '$(TOP)' or '$(or $(O),build)': neither make nor the kernel's build can handle it. \
	Move the repository, or name another directory by O=))
$(if $(filter /dev/% /proc/% /run/% /sys/%,$(TOP) $(BUILD)),$(error \
	'$(TOP)' or '$(BUILD)' cannot be seen in the guest, which has /dev, /proc, /run and /sys of its own. \
	Move the repository, or name another directory by O=))
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
image.full := $(BUILD)/bzImage.full
# What other compilers make of the same: the C by clang, the Rust by the oldest rustc.
image.c-clang := $(BUILD)/bzImage.c-clang
image.oldest := $(BUILD)/bzImage.oldest
image = $(or $(image.$(KERNEL)),$(error KERNEL=$(KERNEL) is none of ours, upstream, c, debug, full))

demo := $(BUILD)/kernel/ours/samples/syscall_user_dispatch/personality

# The directories that mirror the kernel tree.
mirrored := $(wildcard Documentation arch include kernel rust samples tools)
export MIRRORED := $(mirrored)
series := $(shell find patches/*/*.patch $(mirrored)) scripts/series.sh scripts/overlay.sh

define help
  make run                 the demonstration on the patched kernel, from scratch
  make test                the tests; the last line counts the results
  ./guest [COMMAND]        run a command, or a shell, on the patched kernel: ./guest --help
  make shell               the same as ./guest
  make exec CMD='...'      the same for one line of shell commands

  make build               only build it: build/bzImage, build/vmlinux
  make check               static checks
  make kunit               the policy's unit tests, in the guest
  make kselftest           upstream's selftests and ours, in the guest
  make clients             gdb, strace, perf, trace-cmd, stress-ng and interposed programs,
                           on ours and on upstream
  make differential        random programs on our kernel, on C and on upstream (SEED=, OPS=)
  make prove               the object code of the Rust against that of the C, for all inputs
  make bench               what each path costs, compared with C and with upstream
  make bench-programs      what find, tar and sqlite3 cost when all their syscalls are
                           interposed: by upcall, SIGSYS, seccomp's trap and ptrace
  make docs                the admin guide's page, as HTML
  make rustdoc             the code's documentation, private items included
  make menuconfig          the options of our kernel: implementation, tests, debugging
  make deb                 Debian packages of the patched kernel, in build/deb; CONFIG=running,
                           CONFIG=debian or CONFIG=FILE for another configuration than our
                           own, LOCAL=1 for the modules that are in use only
  make installed           those packages in a small Debian on a disk image: installed, booted,
                           tested and removed again
  make patches             the series, ready to send
  make patches-bisect      build and boot each patch, option on and off; over an hour
                           (PATCH=fixes/N or rust/N)
  make million             a million operations of random programs
  make debug               tests, some with failing allocations, on a kernel with KASAN,
                           UBSAN, lockdep and the like; its log must stay clean
  make mutants             deliberate mistakes, one at a time, which the tests must find;
                           over an hour; continues where it was stopped (MUTANT= part of a name)
  make prove-mutants       the object code with an instruction changed, which 'make prove'
                           must notice; five minutes
  make prove-compilers     the same of the C as clang compiles it, and of the Rust as the
                           oldest rustc does; builds two kernels
  make matrix              build what the series touch in 65 configurations; an hour;
                           continues where it was stopped (MATRIX= a pattern of names)
  make test-all            test and all of these: four hours
  make clean               remove build/
  make distclean           remove the downloads and built tools as well

  KERNEL=upstream          (shell, exec, kselftest) the unpatched kernel instead;
  KERNEL=c                 the patched one with the implementation in C
  KERNEL=debug             the patched one with KASAN, UBSAN, lockdep and the like
  KERNEL=full              the patched one with networking, NTSYNC, BPF and the like
  FRAGMENT=/path           options of your own, merged into the kernel that is built
  KDIR=/path               a kernel tree of your own; it is only read
  J=N                      jobs; O=, RUSTC=, BINDGEN=, LLVM= as in the kernel
endef
export help

.DELETE_ON_ERROR:
.SECONDEXPANSION:
.NOTPARALLEL:
.PHONY: FORCE run build build-upstream test check kunit kselftest clients differential prove bench bench-programs image shell exec \
	million debug matrix mutants prove-compilers prove-mutants test-all docs rustdoc deb installed patches patches-bisect menuconfig help clean distclean

run: $(BUILD)/bzImage
	@O=$(BUILD) ./guest sh -c '"$$0" && "$$1"' $(demo) $(dir $(demo))upcall

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
# Tools that are named are looked at each time, and stay until others are.
tools := $(strip $(foreach tool,RUSTC BINDGEN LLVM,$(addprefix $(tool)=,$($(tool)))))
$(BUILD)/.setup: scripts/setup.sh scripts/lib.sh \
	$(if $(tools),$(shell echo '$(tools)' | cmp -s - $(BUILD)/.tools || echo FORCE))
	@scripts/setup.sh
	@echo '$(tools)' >$(BUILD)/.tools
	@touch $@

$(BUILD)/.source: $(BUILD)/.setup scripts/source.sh \
	$(if $(KDIR)$(shell cat $(BUILD)/.kdir 2>/dev/null),FORCE) | $(BUILD)/bin/progress
	@scripts/source.sh
	@touch $@

$(BUILD)/.series: $(BUILD)/.source $(series)
	@scripts/series.sh
	@touch $@

# Of what each kernel is made. What 'make menuconfig' chose stands for
# configs/ours.config, as long as it is there.
config = $(patsubst %,$(TOP)/configs/%.config,$(1))
chosen := $(or $(wildcard $(BUILD)/menu.config),$(call config,ours))
fragments.ours := $(call config,base) $(chosen)
fragments.upstream := $(call config,base upstream)
fragments.c := $(call config,base c)
fragments.debug := $(call config,base) $(chosen) $(call config,debug)
fragments.c-clang := $(fragments.c)
fragments.oldest := $(fragments.ours)
fragments.full := $(call config,base) $(chosen) $(call config,full)
fragments = $(fragments.$(1)) $(if $(FRAGMENT),$(or $(realpath $(FRAGMENT)),$(error FRAGMENT=$(FRAGMENT) is no file)))
# kernel,NAME,TREE: builds it, and puts its image and vmlinux where they are looked for.
kernel = scripts/kernel.sh $(1) $(BUILD)/$(2) $(call fragments,$(1)) && \
	ln -sfn kernel/$(1)/vmlinux $(BUILD)/vmlinux$(suffix $(image.$(1))) && \
	ln -sfn kernel/$(1)/arch/x86/boot/bzImage $@ && touch $@
# What every kernel is made from, and what asks for it to be made again.
needs = $(call fragments,$(1)) scripts/kernel.sh \
	$(shell cat $(call fragments,$(1)) | cmp -s - $(BUILD)/kernel/$(1)/.fragments || echo FORCE)

$(image.ours): $(BUILD)/.series $$(call needs,ours) | $(BUILD)/bin/progress
	@$(call kernel,ours,linux)

$(image.upstream): $(BUILD)/.source $$(call needs,upstream) | $(BUILD)/bin/progress
	@$(call kernel,upstream,pristine)

# Built like ours but for few options.
$(image.c): $(BUILD)/.series $$(call needs,c) | $(BUILD)/bin/progress
	@LIKE=ours $(call kernel,c,linux)

$(image.full): $(BUILD)/.series $$(call needs,full) | $(BUILD)/bin/progress
	@LIKE=ours $(call kernel,full,linux)

# Rust with KASAN takes clang.
$(image.debug): $(BUILD)/.series $$(call needs,debug) | $(BUILD)/bin/progress
	@LLVM=1 $(call kernel,debug,linux)

$(image.c-clang): $(BUILD)/.series $$(call needs,c-clang) | $(BUILD)/bin/progress
	@LLVM=1 $(call kernel,c-clang,linux)

$(image.oldest): $(BUILD)/.series $$(call needs,oldest) scripts/oldest.sh | $(BUILD)/bin/progress
	@scripts/oldest.sh $(BUILD)/oldest
	@PATH="$(BUILD)/oldest:$$PATH" LIKE=ours $(call kernel,oldest,linux)

# The results of all tests are KTAP in build/results: of the host, and of each
# kernel. The closing line counts what is in there.
results := $(BUILD)/results
# Upstream's own tests of the mechanism, and ours beside them. Auditing, once it was
# on, stays on for all that follows: ours are last.
selftests := ptrace:get_set_sud syscall_user_dispatch
# Upstream's tests of what else lies on the road of a syscall: none may do worse
# on our kernel than on upstream's.
neighbours := seccomp ptrace x86 rseq
# The same random programs on each kernel: dispatched by signals; by upcalls where
# there are any; and those that know all of the third series.
SEED ?= 1
OPS ?= 100000
fewer = $(shell echo $$(($(OPS) * 3 / 10)))
random.upstream = differential:$(SEED):$(OPS) differential-upcall:$(SEED):$(fewer)
random = $(random.upstream) differential-ours:$(SEED):$(fewer)

# Programs of ours, each a directory or a file of scripts/.
$(BUILD)/bin/bench $(BUILD)/bin/differential $(BUILD)/bin/mutants: $(BUILD)/bin/%: $$(wildcard scripts/%/*.rs) $(BUILD)/.setup
	@rustc --edition 2021 -O -o $@ scripts/$*/main.rs
$(BUILD)/bin/report: scripts/report.rs $(BUILD)/.setup
	@rustc --edition 2021 -O -o $@ $<

# The programs of the workspace. Those that boot a guest do not wait for the proof.
workspace := Cargo.toml Cargo.lock $(shell find host -name '*.rs' -o -name Cargo.toml)
$(BUILD)/bin/guest $(BUILD)/bin/progress &: $(workspace) $(BUILD)/.setup
	@scripts/host.sh guest progress
	@touch $(BUILD)/bin/guest $(BUILD)/bin/progress
$(BUILD)/bin/prove $(BUILD)/bin/clients: $(workspace) $(BUILD)/.setup
	@scripts/host.sh $(@F)
	@touch $@
# What debuggers are run on.
$(BUILD)/bin/armed: host/clients/armed.c $(BUILD)/.setup
	@gcc -g -O1 -Wall -Werror -pthread -o $@ $<

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
	guest -k $(image.$(1:-smp=)) -t $(patience) -w $(results)/$(1) \
	$(if $(filter %-smp,$(1)),-c 2 -q "-cpu qemu64$(comma)vendor=GenuineIntel") \
	-a "kunit.enable=1 kunit.filter_glob=syscall_user_dispatch" --console $(BUILD)/log/console-$(1).log \
	-- $(TOP)/scripts/in-guest.sh $(results)/$(1) $(2) </dev/null || \
	echo "error: the guest ($(1)) broke off; what is missing counts as failed" >&2
comma := ,
# After how many seconds it hangs.
patience := 2400
million debug: patience := 7200
# taps,NAME,SUITES: where that is; what is not there has failed. On upstream's kernel
# our tests of what it gets wrong have to fail, and there alone.
taps = $(foreach suite,$(2),$(call tap,$(1)/$(firstword $(subst :, ,$(suite)))))
tap = $(results)/$(1).tap$(or $(if $(filter upstream/syscall_user_dispatch,$(1)),!scripts/upstream-fails),$(if \
	$(filter %/syscall_user_dispatch,$(1)),+))

kunit-parse = $(BUILD)/linux/tools/testing/kunit/kunit.py parse $(results)/ours/kunit.tap || true
guest-run = mkdir -p $(results)/host && scripts/guest-test.sh >$(results)/host/guest.tap || true
check-run = mkdir -p $(results)/host && scripts/check.sh >$(results)/host/check.tap || true
# long,NAME,WHAT,UNITS:SECONDS,PATH,COMMAND: with its progress, which is the lines of all files PATH.
long = progress --name $(1) --what "$(2)" --guess $(3) --of '$(4)' -- sh -c '$(subst ','\'',$(5))'
# beside,COMMAND,COMMAND: both at a time. What runs in the background does not hear
# Ctrl-C, so it is told.
beside = trap 'trap - INT; kill 0' INT; { $(1); } & { $(2); } & wait
# differential-compare,KERNEL: with C, from which nothing differs, and with upstream's,
# from which only deviations do.
differential-compare = mkdir -p $(results)/host && { cd $(results) && \
	for style in "" -upcall -ours; do \
		differential compare --same $(1)/differential$$style.txt c/differential$$style.txt \
			>host/differential$$style-c.tap; \
	done; \
	for style in "" -upcall; do \
		differential compare $${style:+-$$style} $(1)/differential$$style.txt upstream/differential$$style.txt \
			>host/differential$$style-upstream.tap; \
	done; true; }
differentials := $(addprefix differential,-c -upstream -upcall-c -upcall-upstream -ours-c)
# Of the linked kernels, and not of what runs.
kernels := $(BUILD)/vmlinux $(BUILD)/vmlinux.c $(BUILD)/vmlinux.upstream
prove-run = mkdir -p $(results)/host && { prove $(kernels) >$(results)/host/prove.tap; true; }
bench = scripts/bench.sh $(image.upstream) $(image.c) $(image.ours)
bench-programs = scripts/bench-programs.sh $(image.c) $(image.ours)
bench-guard = mkdir -p $(results)/host && \
	{ $(bench) --bounds scripts/bench.bounds >$(results)/host/bench.tap; \
	$(bench-programs) --bounds scripts/bench-programs.bounds >$(results)/host/bench-programs.tap; true; }

# Two guests at a time: ours, then ours with two processors; beside them upstream's,
# then the implementation in C.
suites := $(neighbours) syscall_user_dispatch
smp := stress stress-ng clients syscall_user_dispatch:entry_paths_32
test: $(BUILD)/bzImage $(BUILD)/bzImage.c $(BUILD)/bzImage.upstream $(BUILD)/kselftest/run_kselftest.sh \
	$(BUILD)/bin/report $(BUILD)/bin/bench $(BUILD)/bin/differential $(BUILD)/bin/rustix $(BUILD)/bin/guest \
	$(BUILD)/bin/prove $(BUILD)/bin/clients $(BUILD)/bin/armed
	@rm -rf $(results)
	@$(call long,check,checking the sources,12:60,$(results)/*/*.tap,$(check-run))
	@$(call long,guest,running commands in guests$(comma) in all the ways they may end,58:260,$(results)/*/*.tap,$(guest-run))
	@$(call long,prove,proving the object code,64:30,$(results)/*/prove.tap,$(prove-run))
	@$(bench-guard)
	@$(call long,test,testing on three kernels$(comma) two guests at a time,10800:840,$(results)/*/*.tap,$(call beside,\
		$(call guest,ours,kunit samples $(random) $(suites)); $(call guest,ours-smp,$(smp)),\
		$(call guest,upstream,$(random.upstream) clients $(suites)); $(call guest,c,$(random) $(selftests))))
	@$(kunit-parse)
	@$(call differential-compare,ours)
	@report $(call taps,host,check guest prove bench bench-programs $(differentials)) $(call taps,ours,kunit samples syscall_user_dispatch) \
		$(call taps,ours-smp,$(smp)) $(call taps,c,$(selftests)) $(call taps,upstream,clients syscall_user_dispatch) \
		$(join $(call taps,ours,$(neighbours)),$(addprefix =,$(call taps,upstream,$(neighbours))))

check: $(BUILD)/bzImage $(BUILD)/bin/report
	@$(check-run)
	@report $(results)/host/check.tap

kunit: $(BUILD)/bzImage $(BUILD)/bin/report $(BUILD)/bin/guest
	@$(call guest,ours,kunit)
	@$(kunit-parse)
	@report $(results)/ours/kunit.tap

kselftest: $$(image) $(BUILD)/kselftest/run_kselftest.sh $(BUILD)/bin/report $(BUILD)/bin/guest
	@$(call long,kselftest,running the selftests,800:150,$(results)/*/*.tap,$(call guest,$(KERNEL),$(selftests)))
	@report $(call taps,$(KERNEL),$(selftests))

# KERNEL=full has what bpftrace wants.
clients: $$(image) $(BUILD)/bzImage $(BUILD)/bzImage.upstream $(BUILD)/bin/clients $(BUILD)/bin/armed \
	$(BUILD)/bin/guest $(BUILD)/bin/report
	@$(call long,clients,running other people's programs,100:200,$(results)/*/clients.tap,\
		$(call beside,$(call guest,$(KERNEL),clients),$(call guest,upstream,clients)))
	@cat $(call taps,$(KERNEL),clients) $(call taps,upstream,clients)
	@report $(call taps,$(KERNEL),clients) $(call taps,upstream,clients)

million: OPS := 1000000
differential million: $(BUILD)/bzImage $(BUILD)/bzImage.c $(BUILD)/bzImage.upstream \
	$(BUILD)/bin/differential $(BUILD)/bin/guest $(BUILD)/bin/report
	@$(call long,differential-$(OPS),running random programs on three kernels,$$((13 * $(OPS))):$$(($(OPS) / 400)),$(results)/*/differential*.txt,\
		$(call beside,$(call guest,ours,$(random)),$(call guest,upstream,$(random.upstream)); $(call guest,c,$(random))))
	@$(call differential-compare,ours)
	@cat $(call taps,host,$(differentials))
	@report $(call taps,host,$(differentials))

# The debug kernel does a share of everything, and its log must stay clean. That
# this would be noticed otherwise is seen on one that is broken on purpose.
debug-suites := kunit samples injection $(selftests)
debug: results := $(BUILD)/results/debug
debug: OPS := 5000
debug: $(BUILD)/bzImage.debug $(BUILD)/bzImage.c $(BUILD)/bzImage.upstream $(BUILD)/kselftest/run_kselftest.sh \
	$(BUILD)/bin/report $(BUILD)/bin/differential $(BUILD)/bin/rustix $(BUILD)/bin/guest
	@rm -rf $(results)
	@$(call long,debug,testing on the debug kernel,2500:900,$(results)/*/*.tap,\
		$(call beside,$(call guest,debug,$(random) $(debug-suites)),\
		$(call guest,upstream,$(random.upstream)); $(call guest,c,$(random))))
	@$(call differential-compare,debug)
	@scripts/console.sh $(BUILD)/log/console-debug.log >$(results)/host/console.tap
	@LLVM=1 scripts/broken.sh debug $(BUILD)/linux $(call fragments,debug) >$(results)/host/broken.tap || true
	@cat $(results)/host/console.tap $(results)/host/broken.tap
	@report $(call taps,host,$(differentials) console broken) $(call taps,debug,$(debug-suites))

prove: $(BUILD)/bzImage $(BUILD)/bzImage.c $(BUILD)/bzImage.upstream $(BUILD)/bin/prove $(BUILD)/bin/report
	@$(call long,prove,proving the object code,64:30,$(results)/*/prove.tap,$(prove-run))
	@cat $(call taps,host,prove)
	@report $(call taps,host,prove)

prove-others = prove vmlinux vmlinux.c-clang vmlinux.upstream >$(results)/host/prove-c-clang.tap; \
	prove vmlinux.oldest vmlinux.c vmlinux.upstream >$(results)/host/prove-oldest.tap
prove-compilers: $(BUILD)/bzImage $(image.c) $(image.upstream) $(image.c-clang) $(image.oldest) \
	$(BUILD)/bin/prove $(BUILD)/bin/report
	@mkdir -p $(results)/host
	@$(call long,prove-compilers,proving what other compilers make,130:60,$(results)/host/prove-*.tap,\
		cd $(BUILD); $(prove-others); true)
	@report $(call taps,host,prove-c-clang prove-oldest)

# Each line is a mistake that was judged.
prove-mutants: $(BUILD)/bzImage $(BUILD)/bzImage.c $(BUILD)/bzImage.upstream $(BUILD)/bin/prove $(BUILD)/bin/report
	@mkdir -p $(results)/host
	@$(call long,prove-mutants,changing the object code$(comma) an instruction at a time,1650:330,$(results)/host/prove-mutants.tap,\
		prove --mutants scripts/prove.survivors $(kernels) >$(results)/host/prove-mutants.tap; true)
	@report $(results)/host/prove-mutants.tap

bench: $(BUILD)/bzImage $(BUILD)/bzImage.c $(BUILD)/bzImage.upstream $(BUILD)/bin/bench $(BUILD)/bin/guest
	@$(bench)

bench-programs: $(BUILD)/bzImage $(BUILD)/bzImage.c $(BUILD)/bin/bench $(BUILD)/bin/guest
	@$(bench-programs)

docs: $(BUILD)/.series
	@scripts/docs.sh

rustdoc: $(BUILD)/bzImage
	@scripts/rustdoc.sh
	@echo "==> open $(BUILD)/docs/rust/user_dispatch/index.html" >&2

menuconfig: $(BUILD)/.series
	@scripts/menuconfig.sh

# For one's own machine.
deb: $(BUILD)/.series $(BUILD)/bin/progress
	@scripts/deb.sh $(call config,base ours installed)

# The packages in a Debian of their own.
installed: deb $(BUILD)/kselftest/run_kselftest.sh $(BUILD)/bin/report
	@mkdir -p $(results)/host
	@scripts/installed.sh >$(results)/host/installed.tap
	@cat $(results)/host/installed.tap
	@report $(results)/host/installed.tap

patches: $(BUILD)/.series
	@scripts/patches.sh

patches-bisect: $(BUILD)/bzImage $(BUILD)/bin/guest
	@scripts/bisect.sh $(demo)

mutants: $(BUILD)/bzImage $(BUILD)/kselftest/run_kselftest.sh $(BUILD)/bin/mutants $(BUILD)/bin/guest
	@$(call long,mutants,making mistakes on purpose,207:5000,$(BUILD)/mutants/results,scripts/mutants.sh $(BUILD)/bin/mutants)

# The code in other configurations than the project's own.
matrix: $(BUILD)/.series $(BUILD)/bin/report $(BUILD)/bin/progress
	@mkdir -p $(results)/host
	@$(call long,matrix,building what the series touch,67:4000,$(results)/host/matrix.tap,\
		scripts/matrix.sh >$(results)/host/matrix.tap)
	@report $(results)/host/matrix.tap

test-all: test million debug matrix mutants prove-compilers prove-mutants installed

clean:
	@rm -rf $(BUILD)

distclean: clean
	@rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/syscall-user-dispatch"

FORCE:

.DEFAULT:
	@echo "error: nothing is called '$@' here; 'make help' lists what can be made" >&2; exit 2
