// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: its own tracepoints
 */
#include "sud_hold.h"
#include "sud_trace.h"

#define EVENTS	"syscall_user_dispatch"

FIXTURE(events) {
};

FIXTURE_SETUP(events)
{
	if (!sud_trace_begin(EVENTS))
		SKIP(return, SUD_NO_TRACE);
	ASSERT_EQ(0, sud_handle(NULL));
}

FIXTURE_TEARDOWN(events)
{
	sud_trace_end();
}

static void expect_configured(struct __test_metadata *_metadata, pid_t pid, const char *mode)
{
	char text[128];

	snprintf(text, sizeof(text), "pid=%d mode=%s offset=0x%lx len=0x%lx selector=%p", pid,
		 mode, (unsigned long)foreign_begin,
		 (unsigned long)(foreign_end - foreign_begin), &sud->selector);
	EXPECT_EQ(1, sud_trace_count("sud_configure:", text)) {
		TH_LOG("%s", text);
	}
}

TEST_F(events, tell_of_arming_and_disarming)
{
	char text[64];

	ASSERT_TRUE(sud_trace_task(getpid(), EVENTS));
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));
	expect_configured(_metadata, getpid(), "inclusive");
	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, (unsigned long)foreign_begin,
			       foreign_end - foreign_begin, &sud->selector));
	expect_configured(_metadata, getpid(), "exclusive");
	ASSERT_EQ(0, sud_prctl(OFF, 0, 0, NULL));
	snprintf(text, sizeof(text), "pid=%d mode=off offset=0x0 len=0x0 selector=0x0", getpid());
	EXPECT_EQ(1, sud_trace_count("sud_configure:", text));
	EXPECT_EQ(3, sud_trace_count("sud_", ""));
}

TEST_F(events, tell_nothing_of_what_was_refused)
{
	ASSERT_TRUE(sud_trace_task(getpid(), EVENTS));
	EXPECT_EQ(-EINVAL, sud_prctl(INCLUSIVE, 0, 0, NULL));
	EXPECT_EQ(-EINVAL, sud_prctl(OFF, 1, 0, NULL));
	EXPECT_EQ(0, sud_trace_count("sud_", ""));
}

static void call_foreign(void)
{
	foreign_syscall(__NR_getppid);
}

TEST_F(events, tell_of_arming_by_a_tracer)
{
	const struct sud_config config = sud_foreign_config(&sud->selector);
	pid_t pid;

	pid = sud_tracee(call_foreign);
	ASSERT_LT(0, pid);
	/* The event is the tracer's. */
	ASSERT_TRUE(sud_trace_task(getpid(), EVENTS));
	ASSERT_EQ(0, sud_set_config(pid, &config));
	expect_configured(_metadata, pid, "inclusive");
	EXPECT_EQ(1, sud_trace_count("sud_", ""));
	EXPECT_EQ(pid, sud_kill_tracee(pid));
}

TEST_F(events, tell_of_each_dispatch)
{
	char text[128];
	int i;

	ASSERT_TRUE(sud_trace_task(getpid(), EVENTS));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	for (i = 0; i < 3; i++) {
		foreign_syscall(__NR_getppid);
		foreign_syscall(0xffff);
	}
	ASSERT_EQ(0, sud_prctl(OFF, 0, 0, NULL));
	snprintf(text, sizeof(text), "address=0x%lx nr=%d arch=%s",
		 (unsigned long)foreign_syscall_ip, __NR_getppid,
		 sizeof(long) == 8 ? "x86_64" : "i386");
	EXPECT_EQ(3, sud_trace_count("sud_dispatch:", text));
	EXPECT_EQ(6, sud_trace_count("sud_dispatch:", ""));
	EXPECT_EQ(0, sud_trace_count("sud_kill:", ""));
}

TEST_F(events, tell_nothing_of_permitted_syscalls)
{
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));
	ASSERT_TRUE(sud_trace_task(getpid(), EVENTS));
	EXPECT_EQ(getppid(), foreign_syscall(__NR_getppid));
	EXPECT_EQ(getppid(), native_syscall(__NR_getppid));
	EXPECT_EQ(0, sud_trace_count("sud_", ""));
}

/* How a child ends that makes a foreign call with @selector, under trace. */
static int end_of_call(const void *selector)
{
	const struct sud_config config = sud_foreign_config(selector);
	pid_t pid;

	pid = sud_tracee(call_foreign);
	if (pid < 0 || sud_set_config(pid, &config) || !sud_trace_task(pid, EVENTS))
		return -1;
	return sud_resume(pid, PTRACE_CONT, 0);
}

TEST_F(events, tell_of_a_kill_by_a_bad_value)
{
	char text[128];

	sud->selector = 2;
	EXPECT_EQ(SIGSYS, sud_killed_by(end_of_call(&sud->selector)));
	snprintf(text, sizeof(text), "selector=%p reading=2", &sud->selector);
	EXPECT_EQ(1, sud_trace_count("sud_kill:", text));
	EXPECT_EQ(1, sud_trace_count("sud_", ""));
}

TEST_F(events, tell_of_a_kill_by_an_unreadable_selector)
{
	EXPECT_EQ(SIGSEGV, sud_killed_by(end_of_call((void *)1)));
	EXPECT_EQ(1, sud_trace_count("sud_kill:", ""));
	EXPECT_EQ(1, sud_trace_count("sud_kill:", "selector=0x1 reading=-14"));
	EXPECT_EQ(1, sud_trace_count("sud_", ""));
}

/*
 * The event comes once for a dispatch that meets with another SIGSYS, and not
 * at all where something else kills the thread before there is a decision.
 */

static void send_sigsys(void)
{
	syscall(__NR_tgkill, getpid(), hold.tid, SIGSYS);
}

TEST_F(events, tell_once_of_a_dispatch_beside_another_sigsys)
{
	if (!sud_hold(send_sigsys))
		SKIP(return, SUD_CANNOT_HOLD);
	ASSERT_TRUE(sud_trace_task(getpid(), EVENTS));
	ASSERT_EQ(0, sud_arm_foreign(hold.selector));
	foreign_syscall(__NR_getppid);
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(1, sud->others);
	EXPECT_EQ(1, sud_trace_count("sud_dispatch:", ""));
}

TEST_F(events, tell_nothing_of_a_thread_that_is_killed_while_its_selector_is_awaited)
{
	int status;
	pid_t pid;

	if (!sud_can_hold())
		SKIP(return, SUD_CANNOT_HOLD);
	pid = sud_fork();
	if (!pid) {
		sud_hold(sud_hold_for_ever);
		sud_arm_foreign(hold.selector);
		sud_set_flag(SUD_RELEASED);
		sud_await_flag(0);
		call_foreign();
		_exit(1);
	}
	ASSERT_TRUE(sud_await_flag_of(pid, SUD_RELEASED));
	ASSERT_TRUE(sud_trace_task(pid, EVENTS));
	sud_set_flag(0);
	ASSERT_TRUE(sud_await_flag_of(pid, SUD_HELD));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGKILL, sud_killed_by(status));
	EXPECT_EQ(0, sud_trace_count("sud_", ""));
}

TEST_HARNESS_MAIN
