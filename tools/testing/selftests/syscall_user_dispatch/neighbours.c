// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch beside what else works on syscalls: seccomp, tracing
 * and restarts
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

#include "sud_ptrace.h"
#include "sud_trace.h"

/*
 * seccomp
 */

/* A filter that has an opinion on getppid() only */
static bool seccomp_filter(unsigned int action)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {
		.len = ARRAY_SIZE(filter),
		.filter = filter,
	};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
		!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

static int dispatch_under_filter(const void *arg)
{
	if (!seccomp_filter(SECCOMP_RET_KILL_PROCESS) || sud_arm_foreign(NULL))
		return 1;
	return foreign_syscall(__NR_getppid) == __NR_getppid ? 0 : 2;
}

TEST(dispatched_syscall_makes_no_seccomp_event)
{
	ASSERT_EQ(0, sud_handle(NULL));
	EXPECT_EQ(0, sud_run(dispatch_under_filter, NULL));
	EXPECT_EQ(1, sud->dispatches);
}

TEST(permitted_syscall_is_filtered_by_seccomp)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));
	ASSERT_TRUE(seccomp_filter(SECCOMP_RET_ERRNO | E2BIG));
	EXPECT_EQ(-E2BIG, foreign_syscall(__NR_getppid));
	EXPECT_EQ(-E2BIG, native_syscall(__NR_getppid));
	EXPECT_EQ(0, sud->dispatches);
}

TEST(permitted_syscall_is_trapped_by_seccomp)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));
	ASSERT_TRUE(seccomp_filter(SECCOMP_RET_TRAP));
	foreign_syscall(__NR_getppid);
	EXPECT_EQ(1, sud->others);
	EXPECT_EQ(0, sud->dispatches);

	/* The same instruction, dispatched */
	sud->selector = BLOCK;
	EXPECT_EQ(__NR_getppid, foreign_syscall(__NR_getppid));
	EXPECT_EQ(1, sud->dispatches);
}

static void dispatch_and_call_under_filter(void)
{
	seccomp_filter(SECCOMP_RET_TRACE);
	sud_arm_foreign(NULL);
	foreign_syscall(__NR_getppid);
	native_syscall(__NR_getppid);
}

TEST(dispatched_syscall_makes_no_seccomp_stop)
{
	char log[16];
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(dispatch_and_call_under_filter);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_ptrace(PTRACE_SETOPTIONS, pid, 0,
				(void *)(PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL)));
	EXPECT_EQ(0, sud_log_stops(pid, PTRACE_CONT, 0, log, sizeof(log)));
	EXPECT_STREQ("SC", log);
}

/* All that strict mode leaves to 32-bit code is the old sigreturn. */
static void count_dispatch(int sig)
{
	sud->dispatches++;
}

static int dispatch_in_strict_mode(const void *exits)
{
	if (sud_arm_foreign(NULL) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0))
		return 1;
	foreign_syscall(__NR_getppid);
	if (exits)
		native_syscall(__NR_exit, 0L);
	native_syscall(__NR_getppid);
	return 2;
}

TEST(strict_seccomp_works)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_TRUE(signal(SIGSYS, count_dispatch) != SIG_ERR);
	EXPECT_EQ(0, sud_run(dispatch_in_strict_mode, ""));
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(SIGKILL, sud_killed_by(sud_run(dispatch_in_strict_mode, NULL)));
	EXPECT_EQ(2, sud->dispatches);
}

/*
 * Tracepoints
 */

FIXTURE(tracepoints) {
	pid_t pid;
};

static void dispatch_and_call_twice(void)
{
	sud_dispatch_and_call();
	sud_dispatch_and_call();
}

FIXTURE_SETUP(tracepoints)
{
	if (!sud_trace_begin("raw_syscalls"))
		SKIP(return, SUD_NO_TRACE);
	ASSERT_EQ(0, sud_handle(NULL));
	self->pid = sud_tracee(dispatch_and_call_twice);
	ASSERT_LT(0, self->pid);
}

FIXTURE_TEARDOWN(tracepoints)
{
	sud_kill_tracee(self->pid);
	sud_trace_end();
}

TEST_F(tracepoints, are_not_hit_by_a_dispatched_syscall)
{
	const struct sud_config config = sud_foreign_config(NULL);
	char log[64];

	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	ASSERT_TRUE(sud_trace_task(self->pid, "raw_syscalls"));
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_CONT, 0, log, sizeof(log)));
	EXPECT_STREQ("SS", log);

	/* Twice rt_sigreturn and the permitted syscall, and exit */
	sud_trace_syscalls(log, sizeof(log));
	EXPECT_STREQ("()()()()(", log);
}

TEST_F(tracepoints, are_hit_in_pairs_when_enabled_in_the_middle_of_a_dispatch)
{
	const struct sud_config config = sud_foreign_config(NULL);
	char log[64];

	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	ASSERT_EQ('S', sud_stop(self->pid, sud_resume(self->pid, PTRACE_CONT, 0)));
	ASSERT_TRUE(sud_trace_task(self->pid, "raw_syscalls"));
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_CONT, SIGSYS, log, sizeof(log)));
	sud_trace_syscalls(log, sizeof(log));
	EXPECT_STREQ("()()()()(", log);
}

TEST_F(tracepoints, are_hit_by_permitted_syscalls)
{
	const struct sud_config config = sud_foreign_config(&sud->selector);
	char log[64];

	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	ASSERT_TRUE(sud_trace_task(self->pid, "raw_syscalls"));
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_CONT, 0, log, sizeof(log)));
	sud_trace_syscalls(log, sizeof(log));
	EXPECT_STREQ("()()()()(", log);
}

/*
 * Restarted syscalls, which begin anew at the instruction
 */

static void block(int sig, siginfo_t *info, void *context)
{
	sud->selector = BLOCK;
}

static int read_from_pipe(const void *arg)
{
	const int *fd = arg;
	char byte;

	sud_arm_foreign(&sud->selector);
	return foreign_syscall(__NR_read, (long)*fd, &byte, 1L) == SUD_EMULATED ? 0 : 1;
}

TEST(restarted_native_syscall_reads_the_selector_again)
{
	int pipe_fd[2];
	int status;
	pid_t pid;

	ASSERT_EQ(0, sud_handle(sud_emulate));
	ASSERT_EQ(0, sud_sigaction(SIGUSR1, block, SA_RESTART));
	ASSERT_EQ(0, pipe(pipe_fd));
	pid = sud_fork();
	if (!pid)
		_exit(read_from_pipe(pipe_fd));
	ASSERT_TRUE(sud_await_sleep(pid, __NR_read));
	EXPECT_EQ(0, sud->dispatches);
	ASSERT_EQ(0, kill(pid, SIGUSR1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(__NR_read, sud->info.si_syscall);
}

static int poll_for_an_hour(const void *arg)
{
	sud_arm_foreign(&sud->selector);
	return foreign_syscall(__NR_poll, NULL, 0L, 3600000L) == SUD_EMULATED ? 0 : 1;
}

TEST(restart_syscall_can_be_dispatched)
{
	int status;
	pid_t pid;

	ASSERT_EQ(0, sud_handle(sud_emulate));
	pid = sud_fork();
	if (!pid)
		_exit(poll_for_an_hour(NULL));
	ASSERT_TRUE(sud_await_sleep(pid, __NR_poll));
	ASSERT_EQ(0, sud_ptrace(PTRACE_SEIZE, pid, 0, NULL));
	ASSERT_EQ(0, sud_ptrace(PTRACE_INTERRUPT, pid, 0, NULL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	sud->selector = BLOCK;
	ASSERT_EQ(0, sud_ptrace(PTRACE_DETACH, pid, 0, NULL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(__NR_restart_syscall, sud->info.si_syscall);
}

TEST_HARNESS_MAIN
