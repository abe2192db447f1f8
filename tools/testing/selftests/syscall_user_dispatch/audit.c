// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: which syscalls leave audit records
 *
 * This is a program of its own, to be run last: once auditing has been on, the
 * kernel looks after the syscalls of all new tasks until it is booted again.
 */
#include "sud_audit.h"
#include "sud_ptrace.h"

FIXTURE(audit) {
	pid_t pid;
};

FIXTURE_SETUP(audit)
{
	if (!sud_audit_begin())
		SKIP(return, SUD_NO_AUDIT);
	ASSERT_EQ(0, sud_handle(NULL));
	self->pid = sud_tracee(sud_dispatch_and_call);
	ASSERT_LT(0, self->pid);
	ASSERT_TRUE(sud_audit_task(self->pid));
}

FIXTURE_TEARDOWN(audit)
{
	sud_kill_tracee(self->pid);
	sud_audit_end();
}

TEST_F(audit, has_no_record_of_a_dispatched_syscall)
{
	const struct sud_config config = sud_foreign_config(NULL);

	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	ASSERT_EQ('S', sud_stop(self->pid, sud_resume(self->pid, PTRACE_CONT, 0)));
	EXPECT_EQ(0, sud_resume(self->pid, PTRACE_CONT, SIGSYS));
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(__NR_rt_sigreturn, sud_audit_next());
	EXPECT_EQ(__NR_getppid, sud_audit_next());
	EXPECT_EQ(__NR_exit_group, sud_audit_next());
}

TEST_F(audit, has_records_of_permitted_syscalls)
{
	const struct sud_config config = sud_foreign_config(&sud->selector);

	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	EXPECT_EQ(0, sud_resume(self->pid, PTRACE_CONT, 0));
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(__NR_getppid, sud_audit_next());
	EXPECT_EQ(__NR_getppid, sud_audit_next());
	EXPECT_EQ(__NR_exit_group, sud_audit_next());
}

TEST_HARNESS_MAIN
