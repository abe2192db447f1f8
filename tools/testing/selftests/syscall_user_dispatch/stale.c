// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: a thread that is off has no configuration for
 * PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG to report, whoever was armed before it
 */
#include "sud_ptrace.h"

static void call_foreign(void)
{
	foreign_syscall(__NR_getppid);
}

static void expect_off(struct __test_metadata *_metadata, pid_t pid)
{
	struct sud_config config = { .mode = -1 };

	ASSERT_EQ(0, sud_get_config(pid, &config));
	EXPECT_EQ(OFF, config.mode);
	EXPECT_EQ(0, config.offset);
	EXPECT_EQ(0, config.len);
	EXPECT_EQ(0, config.selector);
	EXPECT_EQ(0, sud_set_config(pid, &config));
}

TEST(nothing_is_left_after_fork)
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

TEST(nothing_is_left_after_exec)
{
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(arm_and_exec);
	ASSERT_LT(0, pid);
	ASSERT_EQ('T', sud_stop(pid, sud_resume(pid, PTRACE_CONT, 0)));
	expect_off(_metadata, pid);
	EXPECT_EQ(pid, sud_kill_tracee(pid));
}

TEST_HARNESS_MAIN
