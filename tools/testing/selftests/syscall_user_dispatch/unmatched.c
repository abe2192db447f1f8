// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: what kills over the selector has not entered a
 * syscall, so nothing tells of an exit either
 *
 * To be run last, because of auditing.
 */
#include "sud_audit.h"
#include "sud_ptrace.h"
#include "sud_trace.h"

FIXTURE(kill) {
	struct sud_config config;
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
	ASSERT_EQ(0, sud_handle(NULL));
	sud->selector = 2;
	self->config = sud_foreign_config(variant->unreadable ? (void *)1 : &sud->selector);
}

FIXTURE_TEARDOWN(kill)
{
}

/* One permitted syscall, and then the one that kills */
static void call_native_and_foreign(void)
{
	native_syscall(__NR_getppid);
	foreign_syscall(__NR_getppid);
}

TEST_F(kill, makes_no_syscall_stop)
{
	char log[16];
	pid_t pid;

	pid = sud_tracee(call_native_and_foreign);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_set_config(pid, &self->config));
	EXPECT_EQ(variant->sig, sud_killed_by(sud_log_stops(pid, PTRACE_SYSCALL, 0, log,
							    sizeof(log))));
	EXPECT_STREQ("()", log);
}

TEST_F(kill, hits_no_tracepoint)
{
	char log[16];
	pid_t pid;

	if (!sud_trace_begin("raw_syscalls"))
		SKIP(return, SUD_NO_TRACE);
	pid = sud_tracee(call_native_and_foreign);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_set_config(pid, &self->config));
	ASSERT_TRUE(sud_trace_task(pid, "raw_syscalls"));
	EXPECT_EQ(variant->sig, sud_killed_by(sud_resume(pid, PTRACE_CONT, 0)));
	sud_trace_syscalls(log, sizeof(log));
	EXPECT_STREQ("()", log);
	sud_trace_end();
}

TEST_F(kill, leaves_no_audit_record)
{
	pid_t pid;

	if (!sud_audit_begin())
		SKIP(return, SUD_NO_AUDIT);
	pid = sud_tracee(call_native_and_foreign);
	ASSERT_LT(0, pid);
	ASSERT_TRUE(sud_audit_task(pid));
	ASSERT_EQ(0, sud_set_config(pid, &self->config));
	EXPECT_EQ(variant->sig, sud_killed_by(sud_resume(pid, PTRACE_CONT, 0)));
	ASSERT_EQ(0, sud_audit_mark());
	EXPECT_EQ(__NR_getppid, sud_audit_next());
	EXPECT_EQ(-1, sud_audit_next());
	sud_audit_end();
}

TEST_HARNESS_MAIN
