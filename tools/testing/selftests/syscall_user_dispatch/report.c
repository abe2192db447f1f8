// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: what PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG reports is
 * what a thread was armed with, and PTRACE_SET takes it back
 */
#include "sud_ptrace.h"

static bool configs_equal(const struct sud_config *a, const struct sud_config *b)
{
	return a->mode == b->mode && a->offset == b->offset && a->len == b->len &&
		a->selector == b->selector;
}

static void call_foreign(void)
{
	foreign_syscall(__NR_getppid);
}

TEST(get_returns_what_was_set)
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

TEST(get_tells_what_prctl_armed)
{
	const struct sud_config armed = sud_foreign_config(&sud->selector);
	struct sud_config config;
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(arm_and_stop);
	ASSERT_LT(0, pid);
	ASSERT_TRUE(WIFSTOPPED(sud_resume(pid, PTRACE_CONT, 0)));
	ASSERT_EQ(0, sud_get_config(pid, &config));
	EXPECT_TRUE(configs_equal(&armed, &config));
	EXPECT_EQ(0, sud_set_config(pid, &config));
	EXPECT_EQ(pid, sud_kill_tracee(pid));
}

TEST_HARNESS_MAIN
