// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: a dispatch is not lost to a sibling that has SIGSYS
 * ignored meanwhile. It kills, as where SIGSYS was ignored before.
 */
#include "sud_core.h"
#include "sud_hold.h"

/*
 * A sibling that changes the action while the thread is held. Between what the
 * tracer does, the sibling waits for the flag.
 */

enum { IGNORE = 10, IGNORED, HANDLE, HANDLED };

static void *ignore_and_handle(void *arg)
{
	sud_await_flag(IGNORE);
	signal(SIGSYS, SIG_IGN);
	sud_set_flag(IGNORED);
	sud_await_flag(HANDLE);
	sud_sigaction(SIGSYS, sud_handler, 0);
	sud_set_flag(HANDLED);
	return NULL;
}

static void call_beside_sibling(void)
{
	pthread_t thread;

	sud_cores_allow();
	pthread_create(&thread, NULL, ignore_and_handle, NULL);
	sud->result = foreign_syscall(__NR_getppid);
}

static bool let_sibling(pid_t pid, int what)
{
	sud_set_flag(what);
	return sud_await_flag_of(pid, what + 1);
}

FIXTURE(ignored) {
	pid_t pid;
};

FIXTURE_SETUP(ignored)
{
	if (!sud_can_hold())
		SKIP(return, SUD_CANNOT_HOLD);
	if (!sud_cores_begin())
		SKIP(return, SUD_NO_CORES);
	ASSERT_EQ(0, sud_handle(sud_emulate));
	self->pid = sud_held_tracee(call_beside_sibling, false);
	ASSERT_LT(0, self->pid);
}

FIXTURE_TEARDOWN(ignored)
{
	sud_kill_tracee(self->pid);
	sud_cores_end();
}

static void expect_death_by_dispatch(struct __test_metadata *_metadata, pid_t pid, int status)
{
	ASSERT_EQ(SIGSYS, sud_killed_by(status));
	EXPECT_TRUE(sud_core_names_dispatch(pid));
	EXPECT_EQ(0, sud->order);
}

TEST_F(ignored, while_pending_kills)
{
	int status;

	ASSERT_TRUE(let_sibling(self->pid, IGNORE));
	ASSERT_EQ(SYS_USER_DISPATCH,
		  sud_sigsys_code(self->pid, sud_resume(self->pid, PTRACE_CONT, 0)));
	status = sud_resume(self->pid, PTRACE_CONT, SIGSYS);
	expect_death_by_dispatch(_metadata, self->pid, status);
}

TEST_F(ignored, while_pending_kills_when_the_tracer_detaches)
{
	int status;

	ASSERT_TRUE(let_sibling(self->pid, IGNORE));
	status = sud_resume(self->pid, PTRACE_DETACH, 0);
	expect_death_by_dispatch(_metadata, self->pid, status);
}

TEST_F(ignored, at_the_stop_of_the_dispatch_kills)
{
	int status;

	ASSERT_EQ(SYS_USER_DISPATCH,
		  sud_sigsys_code(self->pid, sud_resume(self->pid, PTRACE_CONT, 0)));
	ASSERT_TRUE(let_sibling(self->pid, IGNORE));
	status = sud_resume(self->pid, PTRACE_CONT, SIGSYS);
	expect_death_by_dispatch(_metadata, self->pid, status);
}

TEST_F(ignored, and_handled_again_while_pending_is_handled)
{
	ASSERT_TRUE(let_sibling(self->pid, IGNORE));
	ASSERT_TRUE(let_sibling(self->pid, HANDLE));
	EXPECT_EQ(0, sud_resume(self->pid, PTRACE_DETACH, 0));
	EXPECT_EQ(1, sud->order);
	EXPECT_EQ(SUD_EMULATED, sud->result);
}

TEST_F(ignored, and_handled_again_at_the_stop_of_the_dispatch_is_handled)
{
	ASSERT_EQ(SYS_USER_DISPATCH,
		  sud_sigsys_code(self->pid, sud_resume(self->pid, PTRACE_CONT, 0)));
	ASSERT_TRUE(let_sibling(self->pid, IGNORE));
	ASSERT_TRUE(let_sibling(self->pid, HANDLE));
	EXPECT_EQ(0, sud_resume(self->pid, PTRACE_CONT, SIGSYS));
	EXPECT_EQ(1, sud->order);
	EXPECT_EQ(SUD_EMULATED, sud->result);
}

TEST_HARNESS_MAIN
