// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: dispatches while memory is short
 *
 * This takes a kernel with CONFIG_FAILSLAB, as nobody runs one but to debug it.
 * The tests are therefore built with the others, and run by name.
 */
#include <limits.h>
#include <time.h>

#include "sud_entry.h"
#include "sud_ptrace.h"
#include "sud_trace.h"

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

static struct sud_undo undo;

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

/* That of the test, for all that belongs to it */
static struct {
	sud_stub *stub;
	unsigned long nr;
	unsigned long ip;
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
	ASSERT_TRUE(sud_undo_later(&undo, restore_settings, NULL));
	if (sud_write_file(SIGQUEUE, "1") == -EINVAL)
		SKIP(return, "signal queue entries share a cache; boot with slab_nomerge");
	for (i = 0; i < ARRAY_SIZE(settings); i++)
		ASSERT_EQ(0, sud_write_file(settings[i].path, settings[i].value));

	path.stub = variant->stub;
	path.nr = variant->getppid_nr;
	path.ip = sud_entry_ip(path.stub, path.nr);
	ASSERT_NE(0, path.ip);
	ASSERT_EQ(0, sud_handle(sud_emulate));
}

FIXTURE_TEARDOWN(entry)
{
	sud_undo_now(&undo);
}

/*
 * Another signal shows that memory is refused: it arrives without siginfo, as
 * one of which nothing is known.
 */
static bool other_signal_is_whole(void)
{
	const struct timespec none = { 0, 0 };
	siginfo_t info = { };
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	syscall(__NR_tgkill, getpid(), gettid(), SIGUSR1);
	sigtimedwait(&mask, &info, &none);
	return info.si_code == SI_TKILL;
}

#define ROUNDS	2000

static void expect_dispatches(struct __test_metadata *_metadata)
{
	long ret;
	int i;

	ASSERT_EQ(0, sud_prctl(INCLUSIVE, path.ip, 1, &sud->selector));
	for (i = 0; i < ROUNDS; i++) {
		sud->selector = BLOCK;
		ret = path.stub(0x10000 + i);
		ASSERT_EQ(SUD_EMULATED, ret);
		ASSERT_EQ(i + 1, sud->dispatches);
		ASSERT_EQ(0x10000 + i, sud->info.si_syscall);
		ASSERT_EQ(path.ip, (unsigned long)sud->info.si_call_addr);
		ASSERT_EQ((long)path.ip, sud->regs[REG_IP]);
		ASSERT_EQ(0x10000 + i, sud->regs[REG_AX]);
	}
	EXPECT_EQ(0, sud->others);
	ASSERT_EQ(0, sud_prctl(OFF, 0, 0, NULL));
}

TEST_F(entry, each_dispatch_arrives_whole_without_memory)
{
	ASSERT_EQ(0, set_refusal(getpid(), "1"));
	ASSERT_EQ(0, refuse(100, INT_MAX));
	EXPECT_FALSE(other_signal_is_whole());
	expect_dispatches(_metadata);
}

TEST_F(entry, each_dispatch_arrives_whole_while_memory_is_short)
{
	ASSERT_EQ(0, set_refusal(getpid(), "1"));
	ASSERT_EQ(0, refuse(50, INT_MAX));
	expect_dispatches(_metadata);
}

TEST_F(entry, each_dispatch_makes_one_event_while_memory_is_short)
{
	int i;

	if (!sud_trace_begin("syscall_user_dispatch"))
		SKIP(return, SUD_NO_TRACE);
	ASSERT_TRUE(sud_trace_task(getpid(), "syscall_user_dispatch/sud_dispatch"));
	ASSERT_EQ(0, sud_prctl(INCLUSIVE, path.ip, 1, &sud->selector));
	ASSERT_EQ(0, set_refusal(getpid(), "1"));
	ASSERT_EQ(0, refuse(50, INT_MAX));
	for (i = 0; i < 100; i++) {
		sud->selector = BLOCK;
		path.stub(path.nr);
	}
	ASSERT_EQ(0, set_refusal(getpid(), "0"));
	EXPECT_EQ(100, sud->dispatches);
	EXPECT_EQ(100, sud_trace_count("sud_dispatch:", ""));
	sud_trace_end();
}

TEST_F(entry, permitted_syscall_takes_no_memory)
{
	ASSERT_EQ(0, sud_prctl(INCLUSIVE, path.ip, 1, &sud->selector));
	ASSERT_EQ(0, set_refusal(getpid(), "1"));
	ASSERT_EQ(0, refuse(100, INT_MAX));
	EXPECT_EQ(getppid(), path.stub(path.nr));
	EXPECT_EQ(INT_MAX, times_left());
}

/* How a child without memory ends that makes the syscall */
static int end_without_memory(const void *selector)
{
	int status;
	pid_t pid;

	pid = sud_fork();
	if (!pid) {
		set_refusal(getpid(), "1");
		sud_prctl(INCLUSIVE, path.ip, 1, selector);
		path.stub(path.nr);
		sud_exit(0);
	}
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

/* What kills does so without memory, too. */

TEST_F(entry, bad_selector_kills_without_memory)
{
	ASSERT_EQ(0, refuse(100, INT_MAX));
	sud->selector = 2;
	EXPECT_EQ(SIGSYS, sud_killed_by(end_without_memory(&sud->selector)));
	EXPECT_EQ(SIGSEGV, sud_killed_by(end_without_memory((void *)1)));
	EXPECT_GT(INT_MAX - 1, times_left());
	EXPECT_EQ(0, sud->dispatches + sud->others);
}

TEST_F(entry, sigsys_blocked_kills_without_memory)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGSYS);
	ASSERT_EQ(0, sigprocmask(SIG_BLOCK, &mask, NULL));
	ASSERT_EQ(0, refuse(100, INT_MAX));
	EXPECT_EQ(SIGSYS, sud_killed_by(end_without_memory(NULL)));
	EXPECT_EQ(0, sud->dispatches + sud->others);
}

static void make_traced_syscall(void)
{
	path.stub(path.nr);
}

TEST_F(entry, tracee_without_memory_makes_one_stop)
{
	const struct sud_config config = {
		.mode = INCLUSIVE,
		.offset = path.ip,
		.len = 1,
	};
	siginfo_t info = { };
	char log[16];
	pid_t pid;

	pid = sud_tracee(make_traced_syscall);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_set_config(pid, &config));
	ASSERT_EQ(0, set_refusal(pid, "1"));
	ASSERT_EQ(0, refuse(100, INT_MAX));
	ASSERT_EQ('S', sud_stop(pid, sud_resume(pid, PTRACE_SYSCALL, 0)));
	ASSERT_EQ(0, sud_ptrace(PTRACE_GETSIGINFO, pid, 0, &info));
	EXPECT_EQ(SYS_USER_DISPATCH, info.si_code);

	/* The handler returns, and the tracee exits. */
	EXPECT_EQ(0, sud_log_stops(pid, PTRACE_SYSCALL, SIGSYS, log, sizeof(log)));
	EXPECT_STREQ("()(", log);
	EXPECT_EQ(1, sud->order);
}

TEST_HARNESS_MAIN
