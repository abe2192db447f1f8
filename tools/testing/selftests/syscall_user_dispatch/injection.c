// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: dispatches for whose siginfo there is no memory
 *
 * This takes a kernel with CONFIG_FAILSLAB, as nobody runs one but to debug it.
 * The tests are therefore built with the others, and run by name.
 */
#include <limits.h>

#include "sud.h"

#define FAILSLAB	"/sys/kernel/debug/failslab/"
#define SIGQUEUE	"/sys/kernel/slab/sigqueue/failslab"

/*
 * Nothing fails but the allocation of signal queue entries in tasks that want
 * it, and no more often than "times" says. The probability comes first, so that
 * nothing else fails while the rest is set, and none of it is logged.
 */
static struct setting {
	const char *path;
	const char *value;
	char before[16];
} settings[] = {
	{ FAILSLAB "probability", "0" },
	{ FAILSLAB "times", "0" },
	{ FAILSLAB "interval", "1" },
	{ FAILSLAB "space", "0" },
	{ FAILSLAB "verbose", "0" },
	{ FAILSLAB "task-filter", "Y" },
	{ FAILSLAB "cache-filter", "Y" },
	{ SIGQUEUE, "1" },
};

static bool read_setting(const char *path, char *value, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = read(fd, value, size - 1);

	close(fd);
	value[len > 0 ? len : 0] = 0;
	return len > 0;
}

static void restore_settings(const void *arg)
{
	int i;

	for (i = ARRAY_SIZE(settings) - 1; i >= 0; i--)
		sud_write_file(settings[i].path, settings[i].before);
}

/* Whether a task may be refused memory. */
static int set_refusal(pid_t pid, const char *value)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/make-it-fail", pid);
	return sud_write_file(path, value);
}

/* Refuse memory with a probability in percent, so many times. */
static int refuse(int probability, int times)
{
	char value[16];
	int ret;

	snprintf(value, sizeof(value), "%d", times);
	ret = sud_write_file(FAILSLAB "times", value);
	snprintf(value, sizeof(value), "%d", probability);
	return ret ?: sud_write_file(FAILSLAB "probability", value);
}

/* How many of these times are left. */
static int times_left(void)
{
	char value[16];

	return read_setting(FAILSLAB "times", value, sizeof(value)) ? atoi(value) : -1;
}

/*
 * The entry paths, each with a stub and the number of getppid() there
 */

FIXTURE(entry) {
	struct sud_undo undo;
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

/* That of the test, for all that belongs to it */
static struct {
	sud_stub *stub;
	unsigned long nr;
	unsigned long ip;	/* where it reports its syscalls */
} path;

FIXTURE_SETUP(entry)
{
	int i;

	if (access("/proc/self/make-it-fail", W_OK) || access(SIGQUEUE, F_OK))
		SKIP(return, "the kernel lacks CONFIG_FAILSLAB or CONFIG_SLUB_DEBUG");
	if (access(FAILSLAB, F_OK))
		SKIP(return, "no debugfs with CONFIG_FAULT_INJECTION_DEBUG_FS, or not root");
	if (!sud_has_int80())
		SKIP(return, "the kernel lacks CONFIG_IA32_EMULATION");

	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		struct setting *s = &settings[i];

		ASSERT_TRUE(read_setting(s->path, s->before, sizeof(s->before)));
	}
	ASSERT_TRUE(sud_undo_later(&self->undo, restore_settings, NULL));
	if (sud_write_file(SIGQUEUE, "1") == -EINVAL)
		SKIP(return, "signal queue entries share a cache; boot with slab_nomerge");
	for (i = 0; i < ARRAY_SIZE(settings); i++)
		ASSERT_EQ(0, sud_write_file(settings[i].path, settings[i].value));

	path.stub = variant->stub;
	path.nr = variant->getppid_nr;
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_all());
	ASSERT_EQ(1, sud_dispatches_nr(path.stub, path.nr));
	ASSERT_EQ(0, sud_prctl(OFF, 0, 0, NULL));
	path.ip = (unsigned long)sud->info.si_call_addr;
	ASSERT_EQ(0, sud_handle(sud_emulate));
}

FIXTURE_TEARDOWN(entry)
{
	sud_undo_now(&self->undo);
}

TEST_F(entry, dispatch_arrives_once_there_is_memory)
{
	int refusals;
	long ret;

	ASSERT_EQ(0, sud_prctl(INCLUSIVE, path.ip, 1, &sud->selector));
	ASSERT_EQ(0, set_refusal(getpid(), "1"));
	for (refusals = 0; refusals < 100; refusals++) {
		ASSERT_EQ(0, refuse(100, refusals));
		sud->selector = BLOCK;
		ret = path.stub(path.nr);
		EXPECT_EQ(0, times_left());
		XFAIL_UPSTREAM(return, sud->others == 1 && ret == (long)path.nr,
			       "D1: the dispatch is lost");
		EXPECT_EQ(SUD_EMULATED, ret);
		EXPECT_EQ(refusals + 1, sud->dispatches);
		EXPECT_EQ(0, sud->others);
		EXPECT_EQ((int)path.nr, sud->info.si_syscall);
		EXPECT_EQ(path.ip, (unsigned long)sud->info.si_call_addr);
		EXPECT_EQ((long)path.ip, sud->regs[REG_IP]);
		EXPECT_EQ((long)path.nr, sud->regs[REG_AX]);
	}
}

/* As many refusals as dispatches are to be expected. */
#define ROUNDS	5000

TEST_F(entry, each_dispatch_arrives_once_while_memory_is_short)
{
	long ret;
	int i;

	ASSERT_EQ(0, sud_prctl(INCLUSIVE, path.ip, 1, &sud->selector));
	ASSERT_EQ(0, set_refusal(getpid(), "1"));
	ASSERT_EQ(0, refuse(50, INT_MAX));
	for (i = 0; i < ROUNDS; i++) {
		sud->selector = BLOCK;
		ret = path.stub(0x10000 + i);
		XFAIL_UPSTREAM(return, sud->others, "D1: a dispatch is lost");
		ASSERT_EQ(SUD_EMULATED, ret);
		ASSERT_EQ(i + 1, sud->dispatches);
		ASSERT_EQ(0x10000 + i, sud->info.si_syscall);
	}
	EXPECT_EQ(0, sud->others);
	EXPECT_LT(ROUNDS / 2, INT_MAX - times_left());
	EXPECT_GT(ROUNDS * 2, INT_MAX - times_left());
}

TEST_F(entry, permitted_syscall_takes_no_memory)
{
	ASSERT_EQ(0, sud_prctl(INCLUSIVE, path.ip, 1, &sud->selector));
	ASSERT_EQ(0, set_refusal(getpid(), "1"));
	ASSERT_EQ(0, refuse(100, INT_MAX));
	EXPECT_EQ(getppid(), path.stub(path.nr));
	EXPECT_EQ(INT_MAX, times_left());
}

/* A child without memory that makes the syscall, and exits with 0 if that runs. */
static pid_t child_without_memory(const void *selector)
{
	pid_t pid = sud_fork();

	if (!pid) {
		set_refusal(getpid(), "1");
		sud_prctl(INCLUSIVE, path.ip, 1, selector);
		_exit(path.stub(path.nr) != getppid());
	}
	return pid;
}

static int end_of(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid ? status : -1;
}

/*
 * A thread that waits for memory which it never gets. On upstream it does not
 * wait, but has lost the dispatch.
 */

static void allow(int sig, siginfo_t *info, void *context)
{
	sud->selector = ALLOW;
}

/* How it ends, if it is sent @sig meanwhile. */
static int end_of_wait(int sig)
{
	pid_t pid;

	sud->selector = BLOCK;
	pid = child_without_memory(&sud->selector);
	while (times_left() > INT_MAX - 10 && !sud->others)
		sched_yield();
	kill(pid, sig);
	return end_of(pid);
}

TEST_F(entry, other_handlers_run_while_there_is_no_memory)
{
	int status;

	ASSERT_EQ(0, sud_sigaction(SIGUSR1, allow, 0));
	ASSERT_EQ(0, refuse(100, INT_MAX));
	status = end_of_wait(SIGUSR1);
	XFAIL_UPSTREAM(return, sud->others, "D1: the dispatch is lost");

	/* The handler has permitted the syscall. */
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(0, sud->others);
}

TEST_F(entry, thread_can_be_killed_while_there_is_no_memory)
{
	int status;

	ASSERT_EQ(0, refuse(100, INT_MAX));
	status = end_of_wait(SIGKILL);
	XFAIL_UPSTREAM(return, sud->others, "D1: the dispatch is lost");
	EXPECT_EQ(SIGKILL, sud_killed_by(status));
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(0, sud->others);
}

/* What kills does so without memory, too. */

TEST_F(entry, bad_selector_kills_without_memory)
{
	ASSERT_EQ(0, refuse(100, INT_MAX));
	sud->selector = 2;
	EXPECT_EQ(SIGSYS, sud_killed_by(end_of(child_without_memory(&sud->selector))));
	EXPECT_EQ(SIGSEGV, sud_killed_by(end_of(child_without_memory((void *)1))));
	EXPECT_GT(INT_MAX - 1, times_left());
	EXPECT_EQ(0, sud->dispatches + sud->others);
}

TEST_F(entry, sigsys_blocked_kills_once_there_is_memory)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGSYS);
	ASSERT_EQ(0, sigprocmask(SIG_BLOCK, &mask, NULL));
	ASSERT_EQ(0, refuse(100, 10));
	EXPECT_EQ(SIGSYS, sud_killed_by(end_of(child_without_memory(NULL))));
	EXPECT_EQ(0, sud->dispatches + sud->others);
}

static void make_traced_syscall(void)
{
	path.stub(path.nr);
}

TEST_F(entry, tracee_without_memory_makes_no_stop)
{
	const struct sud_config config = {
		.mode = INCLUSIVE,
		.offset = path.ip,
		.len = 1,
	};
	siginfo_t info = {};
	char log[16];
	pid_t pid;

	pid = sud_tracee(make_traced_syscall);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_set_config(pid, &config));
	ASSERT_EQ(0, set_refusal(pid, "1"));
	ASSERT_EQ(0, refuse(100, 10));

	/* One stop, after ten attempts */
	ASSERT_EQ('S', sud_stop(pid, sud_resume(pid, PTRACE_SYSCALL, 0)));
	ASSERT_EQ(0, sud_ptrace(PTRACE_GETSIGINFO, pid, 0, &info));
	XFAIL_UPSTREAM(goto out, info.si_code != SYS_USER_DISPATCH, "D1: the dispatch is lost");
	EXPECT_EQ(SYS_USER_DISPATCH, info.si_code);
	EXPECT_EQ(0, times_left());

	/* The handler returns, and the tracee exits. */
	EXPECT_EQ(0, sud_log_stops(pid, PTRACE_SYSCALL, SIGSYS, log, sizeof(log)));
	EXPECT_STREQ("()(", log);
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(0, sud->others);
	return;
out:
	sud_kill_tracee(pid);
}

TEST_HARNESS_MAIN
