// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: kernel.syscall_user_dispatch, which allows arming
 *
 * While a test runs, nobody else on the system can rely on the setting.
 */
#include <sys/stat.h>

/* Where arming is denied, there is something to say here. */
#define SUD_TESTS_SYSCTL
#include "sud_ptrace.h"

#define SYSCTL	"/proc/sys/kernel/syscall_user_dispatch"

FIXTURE(sysctl) {
	char before;
	struct sud_undo undo;
};

static char read_sysctl(void)
{
	int fd = open(SYSCTL, O_RDONLY | O_CLOEXEC);
	char value = 0;

	if (read(fd, &value, 1) != 1)
		value = 0;
	close(fd);
	return value;
}

static int write_sysctl(const char *value)
{
	return sud_write_file(SYSCTL, value);
}

static void restore_sysctl(const void *value)
{
	write_sysctl(value);
}

FIXTURE_SETUP(sysctl)
{
	static char before[2];

	if (access(SYSCTL, F_OK))
		SKIP(return, "no sysctl kernel.syscall_user_dispatch");
	if (access(SYSCTL, W_OK))
		SKIP(return, "needs root");
	before[0] = read_sysctl();
	self->before = before[0];
	ASSERT_TRUE(sud_undo_later(&self->undo, restore_sysctl, before));
	ASSERT_EQ(0, write_sysctl("1"));
	ASSERT_EQ(0, sud_handle(NULL));
}

FIXTURE_TEARDOWN(sysctl)
{
	sud_undo_now(&self->undo);
}

/* Nobody has changed it when these tests begin. */
TEST_F(sysctl, has_mode_0644_and_is_1_by_default)
{
	struct stat st;

	ASSERT_EQ(0, stat(SYSCTL, &st));
	EXPECT_EQ(0644, st.st_mode & 07777);
	EXPECT_EQ(0, st.st_uid);
	EXPECT_EQ('1', self->before);
}

TEST_F(sysctl, reads_back_1_for_any_nonzero_number)
{
	static const char * const values[] = { "1", "2", "255", "65536", "2147483647", "-1" };
	int i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		ASSERT_EQ(0, write_sysctl("0"));
		ASSERT_EQ('0', read_sysctl());
		EXPECT_EQ(0, write_sysctl(values[i])) {
			TH_LOG("value %s", values[i]);
		}
		EXPECT_EQ('1', read_sysctl());
	}
}

TEST_F(sysctl, refuses_garbage_with_einval_and_keeps_its_value)
{
	static const char * const values[] = { "x", "y", "on", "true", "1x", "4294967296" };
	int i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		EXPECT_EQ(-EINVAL, write_sysctl(values[i])) {
			TH_LOG("value %s", values[i]);
		}
		EXPECT_EQ('1', read_sysctl());
	}
}

static int write_as_nobody(const void *arg)
{
	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		return 1;
	if (read_sysctl() != '1')
		return 2;
	return write_sysctl("0") == -EACCES ? 0 : 3;
}

TEST_F(sysctl, can_be_read_but_not_written_by_everybody)
{
	EXPECT_EQ(0, sud_run(write_as_nobody, NULL));
}

TEST_F(sysctl, at_0_denies_arming_to_root_with_eperm)
{
	ASSERT_EQ(0, write_sysctl("0"));
	EXPECT_EQ(-EPERM, sud_prctl(EXCLUSIVE, 0, 0, &sud->selector));
	EXPECT_EQ(-EPERM, sud_arm_foreign(NULL));
	EXPECT_EQ(0, sud_dispatches(foreign_syscall));

	ASSERT_EQ(0, write_sysctl("1"));
	EXPECT_EQ(0, sud_arm_foreign(NULL));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
}

TEST_F(sysctl, at_0_has_einval_before_eperm_before_efault)
{
	ASSERT_EQ(0, write_sysctl("0"));
	EXPECT_EQ(-EINVAL, sud_prctl(3, 0, 0, (void *)-1UL));
	EXPECT_EQ(-EINVAL, sud_prctl(OFF, 1, 0, NULL));
	EXPECT_EQ(-EINVAL, sud_prctl(EXCLUSIVE, 1, 0, (void *)-1UL));
	EXPECT_EQ(-EINVAL, sud_prctl(INCLUSIVE, 0, 0, (void *)-1UL));
	EXPECT_EQ(-EPERM, sud_prctl(EXCLUSIVE, 0, 0, (void *)-1UL));
	EXPECT_EQ(-EPERM, sud_prctl(INCLUSIVE, 0, 1, (void *)-1UL));
}

TEST_F(sysctl, at_0_lets_an_armed_thread_dispatch_and_disarm)
{
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));
	ASSERT_EQ(0, write_sysctl("0"));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
	EXPECT_EQ(-EPERM, sud_arm_foreign(NULL));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
	EXPECT_EQ(0, sud_prctl(OFF, 0, 0, NULL));
	EXPECT_EQ(0, sud_dispatches(foreign_syscall));
	EXPECT_EQ(0, sud_prctl(OFF, 0, 0, NULL));
}

TEST_F(sysctl, at_0_denies_arming_to_a_tracer)
{
	const struct sud_config exclusive = { .mode = EXCLUSIVE };
	const struct sud_config invalid = { .mode = INCLUSIVE };
	const struct sud_config off = { .mode = OFF };
	struct sud_config config;
	pid_t pid;

	pid = sud_tracee(sud_dispatch_and_call);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_set_config(pid, &exclusive));
	ASSERT_EQ(0, write_sysctl("0"));
	EXPECT_EQ(-EPERM, sud_set_config(pid, &exclusive));
	EXPECT_EQ(-EINVAL, sud_set_config(pid, &invalid));

	ASSERT_EQ(0, sud_get_config(pid, &config));
	EXPECT_EQ(EXCLUSIVE, config.mode);
	EXPECT_EQ(0, sud_set_config(pid, &off));
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, 0));
	EXPECT_EQ(0, sud->dispatches);
}

TEST_HARNESS_MAIN
