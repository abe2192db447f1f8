// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: what the C implementation gets wrong. There, these
 * tests are expected to fail.
 *
 * D1: a SIGSYS sent by somebody else swallows a dispatch
 * D2: numbers that look like restart codes do not reach the handler
 * D3: PTRACE_GET of an inclusive region tells of another
 * D4: PTRACE_GET of an unarmed child or program tells of an old region
 * D5: the fatal exits make an exit stop (see neighbours.c for tracing)
 * D6: what 32-bit callers pass is checked by 64-bit rules
 * D7: the trampolines of uprobes are dispatched
 */
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/ioctl.h>

#include "sud.h"

/*
 * The entry paths, each with a stub and the number of getppid() there
 */

FIXTURE(entry) {
	unsigned long ip;
};

FIXTURE_VARIANT(entry) {
	sud_stub *stub;
	unsigned long getppid_nr;
};

FIXTURE_VARIANT_ADD(entry, int80) {
	.stub = foreign_int80,
	.getppid_nr = IA32_NR_getppid,
};

#ifdef __x86_64__
FIXTURE_VARIANT_ADD(entry, syscall) {
	.stub = foreign_syscall,
	.getppid_nr = __NR_getppid,
};
#else
FIXTURE_VARIANT_ADD(entry, vdso) {
	.stub = native_vsyscall,
	.getppid_nr = __NR_getppid,
};
#endif

FIXTURE_SETUP(entry)
{
	if (!sud_has_int80())
		SKIP(return, "the kernel lacks CONFIG_IA32_EMULATION");

	/* Learn where this path reports its syscalls. */
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_all());
	ASSERT_EQ(1, sud_dispatches_nr(variant->stub, variant->getppid_nr));
	ASSERT_EQ(0, sud_prctl(OFF, 0, 0, NULL));
	self->ip = (unsigned long)sud->info.si_call_addr;
}

FIXTURE_TEARDOWN(entry)
{
}

/*
 * D1. To send a SIGSYS that arrives after the entry of a syscall and before
 * the dispatch, hold the thread in between: its selector is on a page that is
 * missing, and whoever supplies the page sends the signal first.
 */

static struct {
	int uffd;
	char *selector;
	pid_t tid;
	bool to_process;
	sigjmp_buf away;
} race;

static bool race_setup(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	race.uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	race.selector = sud_pages(1, PROT_READ | PROT_WRITE);
	reg.range.start = (unsigned long)race.selector;
	reg.range.len = SUD_PAGE;
	return race.uffd >= 0 && !ioctl(race.uffd, UFFDIO_API, &api) &&
		!ioctl(race.uffd, UFFDIO_REGISTER, &reg);
}

static void *send_sigsys_and_block(void *arg)
{
	static char page[SUD_PAGE] = { BLOCK };
	struct uffdio_copy copy = {
		.dst = (unsigned long)race.selector,
		.src = (unsigned long)page,
		.len = SUD_PAGE,
	};
	struct uffd_msg fault;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	if (read(race.uffd, &fault, sizeof(fault)) != sizeof(fault))
		return NULL;
	if (race.to_process)
		kill(getpid(), SIGSYS);
	else
		syscall(__NR_tgkill, getpid(), race.tid, SIGSYS);
	ioctl(race.uffd, UFFDIO_COPY, &copy);
	return NULL;
}

/* The result of a syscall that meets with a SIGSYS of another thread. */
static long race_syscall(sud_stub *stub, unsigned long nr, unsigned long ip)
{
	pthread_t thread;
	long ret;

	race.tid = gettid();
	pthread_create(&thread, NULL, send_sigsys_and_block, NULL);
	sud_prctl(INCLUSIVE, ip, 1, race.selector);
	ret = stub(nr);
	*race.selector = ALLOW;
	pthread_join(thread, NULL);
	return ret;
}

static void emulate_dispatch(siginfo_t *info, ucontext_t *uc)
{
	if (info->si_code != SYS_USER_DISPATCH)
		return;
	*race.selector = ALLOW;
	sud_emulate(info, uc);
}

TEST_F(entry, d1_dispatch_comes_after_a_sigsys_of_another_thread)
{
	long ret;

	if (!race_setup())
		SKIP(return, "no userfaultfd for kernel faults");
	ASSERT_EQ(0, sud_handle(emulate_dispatch));
	ret = race_syscall(variant->stub, variant->getppid_nr, self->ip);
	EXPECT_EQ(1, sud->others);
	XFAIL_UPSTREAM(return, !sud->dispatches && ret == variant->getppid_nr,
		       "D1: the dispatch is lost");
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(SUD_EMULATED, ret);
	EXPECT_EQ((long)self->ip, sud->regs[REG_IP]);
	EXPECT_EQ((long)variant->getppid_nr, sud->regs[REG_AX]);
}

TEST_F(entry, d1_dispatch_comes_beside_a_sigsys_for_the_process)
{
	long ret;

	if (!race_setup())
		SKIP(return, "no userfaultfd for kernel faults");
	race.to_process = true;
	ASSERT_EQ(0, sud_handle(emulate_dispatch));
	ret = race_syscall(variant->stub, variant->getppid_nr, self->ip);
	EXPECT_EQ(1, sud->others);
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(SUD_EMULATED, ret);
}

static void disarm_unless_dispatched(siginfo_t *info, ucontext_t *uc)
{
	if (info->si_code != SYS_USER_DISPATCH)
		sud_prctl(OFF, 0, 0, NULL);
}

TEST_F(entry, d1_syscall_runs_if_the_other_handler_disarms)
{
	long ret;

	if (!race_setup())
		SKIP(return, "no userfaultfd for kernel faults");
	ASSERT_EQ(0, sud_handle(disarm_unless_dispatched));
	ret = race_syscall(variant->stub, variant->getppid_nr, self->ip);
	EXPECT_EQ(1, sud->others);
	EXPECT_EQ(0, sud->dispatches);
	XFAIL_UPSTREAM(return, ret == variant->getppid_nr, "D1: the syscall does not run");
	EXPECT_EQ(getppid(), ret);
}

static void allow_unless_dispatched(siginfo_t *info, ucontext_t *uc)
{
	if (info->si_code != SYS_USER_DISPATCH)
		*race.selector = ALLOW;
}

TEST_F(entry, d1_syscall_runs_if_the_other_handler_allows_it)
{
	long ret;

	if (!race_setup())
		SKIP(return, "no userfaultfd for kernel faults");
	ASSERT_EQ(0, sud_handle(allow_unless_dispatched));
	ret = race_syscall(variant->stub, variant->getppid_nr, self->ip);
	EXPECT_EQ(1, sud->others);
	EXPECT_EQ(0, sud->dispatches);
	XFAIL_UPSTREAM(return, ret == variant->getppid_nr, "D1: the syscall does not run");
	EXPECT_EQ(getppid(), ret);
}

static void leave_unless_dispatched(siginfo_t *info, ucontext_t *uc)
{
	if (info->si_code != SYS_USER_DISPATCH) {
		*race.selector = ALLOW;
		siglongjmp(race.away, 1);
	}
}

TEST_F(entry, d1_nothing_remains_if_the_other_handler_does_not_return)
{
	if (!race_setup())
		SKIP(return, "no userfaultfd for kernel faults");
	ASSERT_EQ(0, sud_handle(leave_unless_dispatched));
	if (!sigsetjmp(race.away, 1)) {
		race_syscall(variant->stub, variant->getppid_nr, self->ip);
		ASSERT_TRUE(false);
	}
	EXPECT_EQ(1, sud->others);
	EXPECT_EQ(0, sud->dispatches);

	ASSERT_EQ(0, sud_prctl(INCLUSIVE, self->ip, 1, &sud->selector));
	EXPECT_EQ(1, sud_dispatches_nr(variant->stub, variant->getppid_nr));
	EXPECT_EQ(0, sud_dispatches_nr(native_int80, IA32_NR_getppid));
}

static void race_under_trace(void)
{
	if (race_setup())
		sud->flag = race_syscall(foreign_syscall, __NR_getppid,
					 (unsigned long)foreign_syscall_ip);
}

TEST(d1_dispatch_comes_after_a_suppressed_sigsys_of_another_thread)
{
	bool in_syscall;
	siginfo_t info;
	int status;
	pid_t pid;
	long nr;

	ASSERT_EQ(0, sud_handle(emulate_dispatch));
	pid = sud_tracee(race_under_trace);
	ASSERT_LT(0, pid);
	status = sud_resume(pid, PTRACE_CONT, 0);
	if (!status)
		SKIP(return, "no userfaultfd for kernel faults");
	ASSERT_EQ('S', sud_stop(pid, status));
	ASSERT_EQ(0, sud_ptrace(PTRACE_GETSIGINFO, pid, 0, &info));
	EXPECT_EQ(SI_TKILL, info.si_code);
	in_syscall = sud_ptrace(PTRACE_PEEKUSER, pid, USER_ORIG_AX, &nr) || nr != -1;

	status = sud_resume(pid, PTRACE_CONT, 0);
	XFAIL_UPSTREAM(return, !status && sud->flag == __NR_getppid, "D1: the dispatch is lost");
	EXPECT_FALSE(in_syscall);
	ASSERT_EQ('S', sud_stop(pid, status));
	ASSERT_EQ(0, sud_ptrace(PTRACE_GETSIGINFO, pid, 0, &info));
	EXPECT_EQ(SYS_USER_DISPATCH, info.si_code);
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, SIGSYS));
	EXPECT_EQ(SUD_EMULATED, sud->flag);
	EXPECT_EQ(0, sud->others);
}

/*
 * D2. The numbers are -ERESTARTSYS, -ERESTARTNOINTR, -ERESTARTNOHAND and
 * -ERESTART_RESTARTBLOCK.
 */
static const long restart_codes[] = { -512, -513, -514, -516 };

static void expect_restart_codes(struct __test_metadata *_metadata, sud_stub *stub,
				 unsigned long ip, int flags)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(restart_codes); i++) {
		unsigned long number = restart_codes[i];
		long ret;

		ASSERT_EQ(0, sud_handle(NULL));
		ASSERT_EQ(0, sud_sigaction(SIGSYS, sud_handler, flags));
		ASSERT_EQ(0, sud_prctl(INCLUSIVE, ip, 1, &sud->selector));
		sud->selector = BLOCK;
		ret = stub(number);
		ASSERT_EQ(0, sud_prctl(OFF, 0, 0, NULL));

		XFAIL_UPSTREAM(return, sud->regs[REG_AX] == -EINTR ||
			       sud->regs[REG_IP] == ip - SYSCALL_INSN_SIZE,
			       "D2: %ld is taken for a restart code", restart_codes[i]);
		if (stub == foreign_int80)
			number = (unsigned int)number;
		EXPECT_EQ(1, sud->dispatches);
		EXPECT_EQ((int)number, sud->info.si_syscall);
		EXPECT_EQ(ip, (unsigned long)sud->info.si_call_addr);
		EXPECT_EQ((long)ip, sud->regs[REG_IP]);
		EXPECT_EQ((long)number, sud->regs[REG_AX]);
		EXPECT_EQ((long)number, ret);
	}
}

TEST_F(entry, d2_restart_code_is_a_number)
{
	expect_restart_codes(_metadata, variant->stub, self->ip, 0);
}

TEST_F(entry, d2_restart_code_is_a_number_with_sa_restart)
{
	expect_restart_codes(_metadata, variant->stub, self->ip, SA_RESTART);
}

/* The tracee takes the number from the shared flag, and puts the result there. */
static void call_number(void)
{
	sud->flag = foreign_syscall((long)sud->flag);
}

TEST(d2_suppressing_the_signal_returns_the_number)
{
	const struct sud_config config = sud_foreign_config(NULL);
	int i, status;
	pid_t pid;

	for (i = 0; i < ARRAY_SIZE(restart_codes); i++) {
		ASSERT_EQ(0, sud_handle(NULL));
		sud->flag = restart_codes[i];
		pid = sud_tracee(call_number);
		ASSERT_LT(0, pid);
		ASSERT_EQ(0, sud_set_config(pid, &config));
		ASSERT_EQ('S', sud_stop(pid, sud_resume(pid, PTRACE_CONT, 0)));
		EXPECT_EQ(restart_codes[i], ptrace(PTRACE_PEEKUSER, pid, USER_AX, NULL));
		EXPECT_EQ(restart_codes[i], ptrace(PTRACE_PEEKUSER, pid, USER_ORIG_AX, NULL));
		status = sud_resume(pid, PTRACE_CONT, 0);
		XFAIL_UPSTREAM(return, sud_stop(pid, status) == 'S',
			       "D2: %ld is dispatched again", restart_codes[i]);
		EXPECT_EQ(0, status);
		EXPECT_EQ(restart_codes[i], sud->flag);
	}
}

/*
 * D3 and D4
 */

static bool configs_equal(const struct sud_config *a, const struct sud_config *b)
{
	return a->mode == b->mode && a->offset == b->offset && a->len == b->len &&
		a->selector == b->selector;
}

static void call_foreign(void)
{
	foreign_syscall(__NR_getppid);
}

TEST(d3_get_returns_what_was_set)
{
	const struct sud_config configs[] = {
		{ .mode = OFF },
		{ .mode = EXCLUSIVE },
		{ .mode = EXCLUSIVE, .len = -1UL },
		{ .mode = EXCLUSIVE, .offset = 1, .len = 1, .selector = 1 },
		{ .mode = EXCLUSIVE, .offset = 1, .len = -2UL, .selector = 0x1000 },
		{ .mode = OFF },
		{ .mode = INCLUSIVE, .len = 1 },
		{ .mode = INCLUSIVE, .len = -1UL },
		{ .mode = INCLUSIVE, .offset = 1, .len = -2UL, .selector = 1 },
		{ .mode = INCLUSIVE, .offset = -2UL, .len = 1, .selector = 0x1000 },
		{ .mode = OFF },
		sud_foreign_config(NULL),
	};
	struct sud_config config;
	pid_t pid;
	int i;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(call_foreign);
	ASSERT_LT(0, pid);
	for (i = 0; i < ARRAY_SIZE(configs); i++) {
		ASSERT_EQ(0, sud_set_config(pid, &configs[i]));
		ASSERT_EQ(0, sud_get_config(pid, &config));
		XFAIL_UPSTREAM(return, configs[i].mode == INCLUSIVE && config.mode == EXCLUSIVE,
			       "D3: an inclusive region is reported as exclusive");
		EXPECT_TRUE(configs_equal(&configs[i], &config));
		EXPECT_EQ(0, sud_set_config(pid, &config));
		ASSERT_EQ(0, sud_get_config(pid, &config));
		EXPECT_TRUE(configs_equal(&configs[i], &config));
	}
	EXPECT_EQ(0, sud_killed_by(sud_resume(pid, PTRACE_DETACH, 0)));
	EXPECT_EQ(1, sud->dispatches);
}

static void arm_and_stop(void)
{
	sud_arm_foreign(&sud->selector);
	kill(getpid(), SIGSTOP);
}

TEST(d3_get_tells_what_prctl_armed)
{
	const struct sud_config armed = sud_foreign_config(&sud->selector);
	struct sud_config config;
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(arm_and_stop);
	ASSERT_LT(0, pid);
	ASSERT_TRUE(WIFSTOPPED(sud_resume(pid, PTRACE_CONT, 0)));
	ASSERT_EQ(0, sud_get_config(pid, &config));
	XFAIL_UPSTREAM(return, config.mode == EXCLUSIVE,
		       "D3: an inclusive region is reported as exclusive");
	EXPECT_TRUE(configs_equal(&armed, &config));
	EXPECT_EQ(0, sud_set_config(pid, &config));
	EXPECT_EQ(pid, sud_kill_tracee(pid));
}

static void expect_off(struct __test_metadata *_metadata, pid_t pid)
{
	const struct sud_config off = { .mode = OFF };
	struct sud_config config = { .mode = -1 };

	ASSERT_EQ(0, sud_get_config(pid, &config));
	EXPECT_EQ(OFF, config.mode);
	XFAIL_UPSTREAM(return, config.offset && config.len,
		       "D4: the region before is reported");
	EXPECT_TRUE(configs_equal(&off, &config));
	EXPECT_EQ(0, sud_set_config(pid, &config));
}

TEST(d4_get_after_fork_tells_nothing_but_off)
{
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));
	pid = sud_tracee(call_foreign);
	ASSERT_LT(0, pid);
	expect_off(_metadata, pid);
	EXPECT_EQ(pid, sud_kill_tracee(pid));
}

static void arm_and_exec(void)
{
	sud_arm_foreign(&sud->selector);
	execl("/bin/true", "true", NULL);
}

TEST(d4_get_after_exec_tells_nothing_but_off)
{
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(arm_and_exec);
	ASSERT_LT(0, pid);
	ASSERT_EQ('T', sud_stop(pid, sud_resume(pid, PTRACE_CONT, 0)));
	expect_off(_metadata, pid);
	EXPECT_EQ(pid, sud_kill_tracee(pid));
}

/*
 * D5
 */

FIXTURE(kill) {
	pid_t pid;
};

FIXTURE_VARIANT(kill) {
	bool unreadable;
	int sig;
};

FIXTURE_VARIANT_ADD(kill, by_bad_value) {
	.sig = SIGSYS,
};

FIXTURE_VARIANT_ADD(kill, by_unreadable_selector) {
	.sig = SIGSEGV,
	.unreadable = true,
};

FIXTURE_SETUP(kill)
{
	struct sud_config config;

	ASSERT_EQ(0, sud_handle(NULL));
	sud->selector = 2;
	config = sud_foreign_config(variant->unreadable ? (void *)1 : &sud->selector);
	self->pid = sud_tracee(call_foreign);
	ASSERT_LT(0, self->pid);
	ASSERT_EQ(0, sud_set_config(self->pid, &config));
}

FIXTURE_TEARDOWN(kill)
{
	sud_kill_tracee(self->pid);
}

TEST_F(kill, d5_makes_no_syscall_stop)
{
	char log[16];
	int status;

	status = sud_log_stops(self->pid, PTRACE_SYSCALL, 0, log, sizeof(log));
	EXPECT_EQ(variant->sig, sud_killed_by(status));
	XFAIL_UPSTREAM(return, !strcmp(log, ")"), "D5: an exit stop without an entry stop");
	EXPECT_STREQ("", log);
}

/*
 * D6. Whoever makes the call by int $0x80 is a 32-bit caller, whose pointers
 * have to lie below 4 GiB.
 */

FIXTURE(ia32) {
	struct sud_config *config;
	char *selector;
};

FIXTURE_SETUP(ia32)
{
	void *low = mmap(NULL, SUD_PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	if (!sud_has_int80())
		SKIP(return, "the kernel lacks CONFIG_IA32_EMULATION");
	ASSERT_TRUE(low != MAP_FAILED);
	self->config = low;
	self->selector = low + sizeof(*self->config);
}

FIXTURE_TEARDOWN(ia32)
{
}

static long ia32_prctl(unsigned long mode, unsigned long offset, unsigned long len,
		       unsigned long selector)
{
	return native_int80(IA32_NR_prctl, (long)PR_SET_SYSCALL_USER_DISPATCH,
			    mode, offset, len, selector);
}

/* A region of one byte that holds no code */
#define NOWHERE	0xfffffffeUL

TEST_F(ia32, d6_region_up_to_the_last_byte_is_accepted)
{
	const unsigned long allow = (unsigned long)self->selector;

	EXPECT_EQ(0, ia32_prctl(EXCLUSIVE, 0, 0xffffffff, allow));
	EXPECT_EQ(0, ia32_prctl(EXCLUSIVE, 1, 0xfffffffe, allow));
	EXPECT_EQ(0, ia32_prctl(EXCLUSIVE, NOWHERE, 1, allow));
	EXPECT_EQ(0, ia32_prctl(INCLUSIVE, 0, 0xffffffff, allow));
	EXPECT_EQ(0, ia32_prctl(INCLUSIVE, 1, 0xfffffffe, allow));
	EXPECT_EQ(0, ia32_prctl(INCLUSIVE, NOWHERE, 1, allow));
	EXPECT_EQ(0, ia32_prctl(INCLUSIVE, NOWHERE, 1, 0xffffdfff));
	EXPECT_EQ(0, ia32_prctl(OFF, 0, 0, 0));
}

TEST_F(ia32, d6_region_that_wraps_at_4_gib_is_einval)
{
	static const struct {
		unsigned long offset, len;
	} region[] = {
		{ 1, 0xffffffff }, { 2, 0xffffffff }, { 0xffffffff, 1 },
		{ 0xffffffff, 0xffffffff }, { 0x80000000, 0x80000000 },
	};
	const unsigned long allow = (unsigned long)self->selector;
	int i;

	for (i = 0; i < ARRAY_SIZE(region); i++) {
		long exclusive, inclusive;

		exclusive = ia32_prctl(EXCLUSIVE, region[i].offset, region[i].len, allow);
		inclusive = ia32_prctl(INCLUSIVE, region[i].offset, region[i].len, allow);
		XFAIL_UPSTREAM(return, !exclusive && !inclusive, "D6: accepted");
		EXPECT_EQ(-EINVAL, exclusive);
		EXPECT_EQ(-EINVAL, inclusive);
	}
}

TEST_F(ia32, d6_selector_outside_user_space_is_efault)
{
	long first, last;

	first = ia32_prctl(INCLUSIVE, NOWHERE, 1, 0xffffe000);
	last = ia32_prctl(INCLUSIVE, NOWHERE, 1, 0xffffffff);
	XFAIL_UPSTREAM(return, !first && !last, "D6: accepted");
	EXPECT_EQ(-EFAULT, first);
	EXPECT_EQ(-EFAULT, last);
	EXPECT_EQ(-EINVAL, ia32_prctl(INCLUSIVE, 0, 0, 0xffffffff));
}

static long ia32_set_config(pid_t pid, struct sud_config *low, struct sud_config config)
{
	*low = config;
	return native_int80(IA32_NR_ptrace, (long)PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG,
			    (long)pid, sizeof(*low), low);
}

TEST_F(ia32, d6_tracer_is_judged_by_its_own_word_size)
{
	const struct sud_config nowhere = { .mode = INCLUSIVE, .offset = NOWHERE, .len = 1 };
	const struct sud_config invalid[] = {
		{ .mode = EXCLUSIVE, .offset = 1, .len = 0xffffffff },
		{ .mode = INCLUSIVE, .offset = 0xffffffff, .len = 1 },
		{ .mode = EXCLUSIVE, .offset = 1ULL << 32, .len = 1 },
		{ .mode = INCLUSIVE, .offset = 1ULL << 32, .len = 1 },
		{ .mode = INCLUSIVE, .offset = 0, .len = 1ULL << 32 },
	};
	const struct sud_config bad_selector = {
		.mode = INCLUSIVE, .offset = NOWHERE, .len = 1, .selector = 0xffffe000,
	};
	pid_t pid;
	long ret;
	int i;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(call_foreign);
	ASSERT_LT(0, pid);
	EXPECT_EQ(0, ia32_set_config(pid, self->config, nowhere));
	for (i = 0; i < ARRAY_SIZE(invalid); i++) {
		ret = ia32_set_config(pid, self->config, invalid[i]);
		XFAIL_UPSTREAM(return, !ret, "D6: accepted");
		EXPECT_EQ(-EINVAL, ret);
	}
	EXPECT_EQ(-EFAULT, ia32_set_config(pid, self->config, bad_selector));
#ifdef __x86_64__
	/* The same values from a 64-bit tracer are good. */
	for (i = 0; i < ARRAY_SIZE(invalid); i++)
		EXPECT_EQ(0, sud_set_config(pid, &invalid[i]));
#endif
	EXPECT_EQ(pid, sud_kill_tracee(pid));
}

#ifdef __x86_64__

/*
 * D7. The function under probe makes no syscall, so whatever is dispatched
 * here was made on its behalf. Its first instruction is a NOP of ten bytes,
 * which the kernel may replace by a call to a trampoline.
 */
sud_stub probed;

asm(".pushsection .text\n"
	".balign 16\n"
	"probed:\n"
	"	.byte	0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0\n"
	"	ret\n"
	".popsection\n");

#define UPROBE_PMU	"/sys/bus/event_source/devices/uprobe/"

static int open_probe(bool on_return)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.config = on_return,
		.uprobe_path = (unsigned long)"/proc/self/exe",
	};
	struct sud_map text;
	FILE *type;

	type = fopen(UPROBE_PMU "type", "r");
	if (!type || !sud_find_map((unsigned long)probed, &text))
		return -1;
	if (fscanf(type, "%u", &attr.type) != 1)
		attr.type = -1;
	fclose(type);
	attr.probe_offset = (unsigned long)probed - text.start + text.offset;
	return syscall(__NR_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

FIXTURE(probe) {
};

FIXTURE_VARIANT(probe) {
	bool on_return;
};

FIXTURE_VARIANT_ADD(probe, uprobe) {
	.on_return = false,
};

FIXTURE_VARIANT_ADD(probe, uretprobe) {
	.on_return = true,
};

static int call_probed(const void *on_return)
{
	const int calls = 4;
	const char selector = sud->selector;
	unsigned long hits;
	int fd, i;

	fd = open_probe(*(const bool *)on_return);
	if (fd < 0 || sud_arm_all())
		return 1;
	for (i = 0; i < calls; i++) {
		sud->selector = selector;
		probed(0);
		sud->selector = ALLOW;
	}
	return read(fd, &hits, sizeof(hits)) == sizeof(hits) && hits == calls ? 0 : 2;
}

FIXTURE_SETUP(probe)
{
	int fd = open_probe(variant->on_return);

	if (fd < 0)
		SKIP(return, "no uprobes through perf");
	close(fd);

	/* A syscall of a trampoline has to be made after all. */
	ASSERT_EQ(0, sud_handle(sud_repeat));
}

FIXTURE_TEARDOWN(probe)
{
}

TEST_F(probe, d7_on_a_foreign_function_is_not_dispatched)
{
	sud->selector = BLOCK;
	EXPECT_EQ(0, sud_run(call_probed, &variant->on_return));
	XFAIL_UPSTREAM(return, sud->dispatches, "D7: syscall %d is dispatched",
		       sud->info.si_syscall);
	EXPECT_EQ(0, sud->dispatches);
}

TEST_F(probe, d7_on_a_foreign_function_does_not_kill)
{
	int status;

	sud->selector = 2;
	status = sud_run(call_probed, &variant->on_return);
	XFAIL_UPSTREAM(return, sud_killed_by(status) == SIGSYS, "D7: killed");
	EXPECT_EQ(0, status);
}

TEST(d7_numbers_of_uprobes_are_dispatched_at_any_other_address)
{
	static const unsigned long numbers[] = { 335, 336 };
	int i;

	ASSERT_EQ(0, sud_handle(sud_emulate));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	for (i = 0; i < ARRAY_SIZE(numbers); i++)
		EXPECT_EQ(SUD_EMULATED, foreign_syscall(numbers[i]));
	EXPECT_EQ(2, sud->dispatches);
}

#endif

TEST_HARNESS_MAIN
