// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: the configuration requests of ptrace, and what a
 * tracer sees of dispatched and of permitted syscalls
 */
#include <pthread.h>

#include "sud_ptrace.h"

FIXTURE(tracee) {
	pid_t pid;
};

FIXTURE_SETUP(tracee)
{
	const struct sud_config config = sud_foreign_config(NULL);

	ASSERT_EQ(0, sud_handle(NULL));
	self->pid = sud_tracee(sud_dispatch_and_call);
	ASSERT_LT(0, self->pid);
	ASSERT_EQ(0, sud_set_config(self->pid, &config));
}

FIXTURE_TEARDOWN(tracee)
{
	sud_kill_tracee(self->pid);
}

/*
 * The requests
 */

TEST_F(tracee, size_other_than_32_is_einval_before_the_pointer)
{
	static const unsigned long sizes[] = { 0, 1, 16, 24, 31, 33, 64, -1UL };
	struct sud_config config;
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		EXPECT_EQ(-EINVAL, sud_ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG,
					      self->pid, sizes[i], &config));
		EXPECT_EQ(-EINVAL, sud_ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG,
					      self->pid, sizes[i], NULL));
		EXPECT_EQ(-EINVAL, sud_ptrace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG,
					      self->pid, sizes[i], &config));
		EXPECT_EQ(-EINVAL, sud_ptrace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG,
					      self->pid, sizes[i], NULL));
	}
}

TEST_F(tracee, bad_pointer_is_efault)
{
	EXPECT_EQ(-EFAULT, sud_get_config(self->pid, NULL));
	EXPECT_EQ(-EFAULT, sud_set_config(self->pid, NULL));
	EXPECT_EQ(-EFAULT, sud_get_config(self->pid, (void *)-1UL));
	EXPECT_EQ(-EFAULT, sud_set_config(self->pid, (void *)-1UL));
}

static void await_flag(void)
{
	sud_await_flag(1);
}

TEST(tracee_that_is_not_stopped_is_esrch)
{
	struct sud_config config = { .mode = OFF };
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(await_flag);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_ptrace(PTRACE_CONT, pid, 0, NULL));
	EXPECT_EQ(-ESRCH, sud_get_config(pid, &config));
	EXPECT_EQ(-ESRCH, sud_set_config(pid, &config));
	EXPECT_EQ(-ESRCH, sud_ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, pid, 0, NULL));
	sud_set_flag(1);
	EXPECT_EQ(pid, sud_kill_tracee(pid));
}

TEST(task_that_is_not_traced_is_esrch)
{
	struct sud_config config = { .mode = OFF };

	EXPECT_EQ(-ESRCH, sud_get_config(getpid(), &config));
	EXPECT_EQ(-ESRCH, sud_set_config(getpid(), &config));
}

static void arm_exclusive_and_stop(void)
{
	sud_prctl(EXCLUSIVE, 0x12345, 0x6789a, &sud->selector);
	kill(getpid(), SIGSTOP);
}

TEST(get_tells_what_prctl_armed)
{
	struct sud_config config = { .mode = -1 };
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(arm_exclusive_and_stop);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_get_config(pid, &config));
	EXPECT_EQ(OFF, config.mode);
	EXPECT_EQ(0, config.offset);
	EXPECT_EQ(0, config.len);
	EXPECT_EQ(0, config.selector);

	ASSERT_TRUE(WIFSTOPPED(sud_resume(pid, PTRACE_CONT, 0)));
	ASSERT_EQ(0, sud_get_config(pid, &config));
	EXPECT_EQ(EXCLUSIVE, config.mode);
	EXPECT_EQ(0x12345, config.offset);
	EXPECT_EQ(0x6789a, config.len);
	EXPECT_EQ((unsigned long)&sud->selector, config.selector);
	EXPECT_EQ(pid, sud_kill_tracee(pid));
}

TEST_F(tracee, set_refuses_what_prctl_refuses)
{
	static const struct sud_config invalid[] = {
		{ .mode = 3 },
		{ .mode = 1ULL << 32 | EXCLUSIVE },
		{ .mode = -1ULL },
		{ .mode = OFF, .offset = 1 },
		{ .mode = OFF, .len = 1 },
		{ .mode = OFF, .selector = 1 },
		{ .mode = EXCLUSIVE, .offset = 1 },
		{ .mode = EXCLUSIVE, .offset = 1, .len = -1ULL },
		{ .mode = EXCLUSIVE, .offset = -1ULL, .len = 1 },
		{ .mode = INCLUSIVE },
		{ .mode = INCLUSIVE, .offset = 1 },
		{ .mode = INCLUSIVE, .offset = 1, .len = -1ULL },
		{ .mode = INCLUSIVE, .offset = -1ULL, .len = 2 },
		{ .mode = INCLUSIVE, .selector = -1ULL },
	};
	static const struct sud_config bad_selector = {
		.mode = EXCLUSIVE, .selector = -1ULL,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(invalid); i++)
		EXPECT_EQ(-EINVAL, sud_set_config(self->pid, &invalid[i]));
	EXPECT_EQ(-EFAULT, sud_set_config(self->pid, &bad_selector));

	/* And leaves the tracee armed as before. */
	EXPECT_EQ('S', sud_stop(self->pid, sud_resume(self->pid, PTRACE_CONT, 0)));
}

TEST_F(tracee, set_replaces)
{
	const struct sud_config exempt = {
		.mode = EXCLUSIVE,
		.offset = 0,
		.len = -1UL,
	};

	ASSERT_EQ(0, sud_set_config(self->pid, &exempt));
	EXPECT_EQ(0, sud_resume(self->pid, PTRACE_CONT, 0));
	EXPECT_EQ(0, sud->dispatches);
}

TEST_F(tracee, set_disarms)
{
	const struct sud_config off = { .mode = OFF };

	ASSERT_EQ(0, sud_set_config(self->pid, &off));
	EXPECT_EQ(0, sud_resume(self->pid, PTRACE_CONT, 0));
	EXPECT_EQ(0, sud->dispatches);
}

TEST_F(tracee, configuration_survives_detach)
{
	int status;

	ASSERT_EQ(0, sud_ptrace(PTRACE_DETACH, self->pid, 0, NULL));
	ASSERT_EQ(self->pid, waitpid(self->pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, sud->dispatches);
}

static void *wait_and_dispatch(void *arg)
{
	__atomic_store_n((pid_t *)arg, gettid(), __ATOMIC_RELEASE);
	sud_await_flag(1);
	foreign_syscall(__NR_gettid);
	return NULL;
}

static void run_two_threads(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, wait_and_dispatch, &sud->tid);
	foreign_syscall(__NR_gettid);
	pthread_join(thread, NULL);
}

TEST(configuration_is_per_thread)
{
	const struct sud_config armed = sud_foreign_config(NULL);
	struct sud_config config;
	int status;
	pid_t pid, tid;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(run_two_threads);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_ptrace(PTRACE_CONT, pid, 0, NULL));
	while (!(tid = __atomic_load_n(&sud->tid, __ATOMIC_ACQUIRE)))
		sched_yield();

	/* Arm one, */
	ASSERT_EQ(0, sud_ptrace(PTRACE_SEIZE, tid, 0, NULL));
	ASSERT_EQ(0, sud_ptrace(PTRACE_INTERRUPT, tid, 0, NULL));
	ASSERT_EQ(tid, waitpid(tid, &status, __WALL));
	ASSERT_EQ(0, sud_set_config(tid, &armed));
	ASSERT_EQ(0, sud_ptrace(PTRACE_DETACH, tid, 0, NULL));

	/* and see that the other is not. */
	ASSERT_EQ(0, native_syscall(__NR_tgkill, (long)pid, (long)pid, (long)SIGSTOP));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, sud_get_config(pid, &config));
	EXPECT_EQ(OFF, config.mode);
	sud_set_flag(1);
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, 0));
	EXPECT_EQ(1, sud->dispatches);
}

/*
 * Stops of dispatched syscalls
 */

TEST_F(tracee, dispatched_syscall_makes_a_sigsys_stop_only)
{
	char log[16];

	/* SIGSYS, then rt_sigreturn, the permitted syscall, and exit */
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_SYSCALL, 0, log, sizeof(log)));
	EXPECT_STREQ("S()()(", log);
	EXPECT_EQ(1, sud->dispatches);
}

TEST_F(tracee, sigsys_stop_shows_the_number_and_no_syscall)
{
	ASSERT_EQ('S', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SYSCALL, 0)));
	EXPECT_EQ(__NR_getppid, ptrace(PTRACE_PEEKUSER, self->pid, USER_AX, NULL));
	EXPECT_EQ(__NR_getppid, ptrace(PTRACE_PEEKUSER, self->pid, USER_ORIG_AX, NULL));
	EXPECT_EQ((long)foreign_syscall_ip, ptrace(PTRACE_PEEKUSER, self->pid, USER_IP, NULL));
	EXPECT_EQ(PTRACE_SYSCALL_INFO_NONE, sud_syscall_op(self->pid));
}

TEST_F(tracee, dispatched_syscall_makes_no_sysemu_stop)
{
	/* Without the handler, whose return could not be emulated */
	ASSERT_EQ('S', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SYSEMU, 0)));
	EXPECT_EQ('(', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SYSEMU, 0)));
	EXPECT_EQ((long)native_syscall_ip, ptrace(PTRACE_PEEKUSER, self->pid, USER_IP, NULL));
}

TEST_F(tracee, sysemu_singlestep_stops_as_singlestep_does_at_a_dispatched_syscall)
{
	int steps, status;

	for (steps = 0; steps < 1000; steps++) {
		status = sud_resume(self->pid, PTRACE_SYSEMU_SINGLESTEP, 0);
		if (sud_stop(self->pid, status) != 'T')
			break;
	}
	ASSERT_EQ('S', sud_stop(self->pid, status));
	EXPECT_EQ((long)foreign_syscall_ip, ptrace(PTRACE_PEEKUSER, self->pid, USER_IP, NULL));
	EXPECT_EQ(__NR_getppid, ptrace(PTRACE_PEEKUSER, self->pid, USER_AX, NULL));
	status = sud_resume(self->pid, PTRACE_SYSEMU_SINGLESTEP, SIGSYS);
	EXPECT_EQ('T', sud_stop(self->pid, status));
	EXPECT_EQ((long)sud_handler, ptrace(PTRACE_PEEKUSER, self->pid, USER_IP, NULL));
	EXPECT_EQ(0, sud_resume(self->pid, PTRACE_CONT, 0));
	EXPECT_EQ(1, sud->dispatches);
}

static void report_result(void)
{
	sud->flag = foreign_syscall(__NR_getppid);
}

TEST(suppressing_the_signal_returns_the_number)
{
	const struct sud_config config = sud_foreign_config(NULL);
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(report_result);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_set_config(pid, &config));
	ASSERT_EQ('S', sud_stop(pid, sud_resume(pid, PTRACE_CONT, 0)));
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, 0));
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(__NR_getppid, sud->flag);
}

TEST(registers_set_at_the_sigsys_stop_are_honoured)
{
	const struct sud_config config = sud_foreign_config(NULL);
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(report_result);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_set_config(pid, &config));
	ASSERT_EQ('S', sud_stop(pid, sud_resume(pid, PTRACE_CONT, 0)));
	ASSERT_EQ(0, ptrace(PTRACE_POKEUSER, pid, USER_AX, SUD_EMULATED));
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, SIGSYS));
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(SUD_EMULATED, sud->regs[REG_AX]);
	EXPECT_EQ(SUD_EMULATED, sud->flag);
}

TEST_F(tracee, disarming_at_the_sigsys_stop_still_delivers)
{
	const struct sud_config off = { .mode = OFF };
	char log[16];

	ASSERT_EQ('S', sud_stop(self->pid, sud_resume(self->pid, PTRACE_CONT, 0)));
	ASSERT_EQ(0, sud_set_config(self->pid, &off));
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_SYSCALL, SIGSYS, log, sizeof(log)));
	EXPECT_STREQ("()()(", log);
	EXPECT_EQ(1, sud->dispatches);
}

TEST_F(tracee, singlestep_stops_at_sigsys_and_at_the_first_instruction_of_the_handler)
{
	long ip, last_ip = 0;
	int steps, status;

	for (steps = 0; steps < 1000; steps++) {
		status = sud_resume(self->pid, PTRACE_SINGLESTEP, 0);
		if (sud_stop(self->pid, status) != 'T')
			break;
		last_ip = ptrace(PTRACE_PEEKUSER, self->pid, USER_IP, NULL);
	}
	EXPECT_EQ('S', sud_stop(self->pid, status));
	EXPECT_EQ((long)foreign_syscall_ip - SYSCALL_INSN_SIZE, last_ip);

	status = sud_resume(self->pid, PTRACE_SINGLESTEP, SIGSYS);
	EXPECT_EQ('T', sud_stop(self->pid, status));
	ip = ptrace(PTRACE_PEEKUSER, self->pid, USER_IP, NULL);
	EXPECT_EQ((long)sud_handler, ip);
}

/*
 * Stops of permitted syscalls
 */

FIXTURE(permitted) {
	pid_t pid;
};

static void call_twice(void)
{
	sud->flag = foreign_syscall(__NR_getppid);
	sud->flag -= foreign_syscall(__NR_getpid);
}

FIXTURE_SETUP(permitted)
{
	const struct sud_config config = sud_foreign_config(&sud->selector);

	ASSERT_EQ(0, sud_handle(NULL));
	self->pid = sud_tracee(call_twice);
	ASSERT_LT(0, self->pid);
	ASSERT_EQ(0, sud_set_config(self->pid, &config));
}

FIXTURE_TEARDOWN(permitted)
{
	sud_kill_tracee(self->pid);
}

TEST_F(permitted, syscall_makes_an_entry_and_an_exit_stop)
{
	char log[16];

	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_SYSCALL, 0, log, sizeof(log)));
	EXPECT_STREQ("()()(", log);
}

TEST_F(permitted, syscall_can_be_emulated_by_sysemu)
{
	EXPECT_EQ('(', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SYSEMU, 0)));
	EXPECT_EQ(__NR_getppid, ptrace(PTRACE_PEEKUSER, self->pid, USER_ORIG_AX, NULL));
	ASSERT_EQ(0, ptrace(PTRACE_POKEUSER, self->pid, USER_AX, SUD_EMULATED));
	EXPECT_EQ('(', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SYSEMU, 0)));
	EXPECT_EQ(__NR_getpid, ptrace(PTRACE_PEEKUSER, self->pid, USER_ORIG_AX, NULL));
	EXPECT_EQ(SUD_EMULATED, sud->flag);
}

TEST_F(permitted, syscall_can_be_emulated_by_sysemu_singlestep)
{
	int steps, status;

	for (steps = 0; steps < 1000; steps++) {
		status = sud_resume(self->pid, PTRACE_SYSEMU_SINGLESTEP, 0);
		if (sud_stop(self->pid, status) != 'T')
			break;
	}
	ASSERT_EQ('(', sud_stop(self->pid, status));
	EXPECT_EQ((long)foreign_syscall_ip, ptrace(PTRACE_PEEKUSER, self->pid, USER_IP, NULL));
	EXPECT_EQ(__NR_getppid, ptrace(PTRACE_PEEKUSER, self->pid, USER_ORIG_AX, NULL));
	ASSERT_EQ(0, ptrace(PTRACE_POKEUSER, self->pid, USER_AX, SUD_EMULATED));

	/* It is not executed, and makes no other stop. */
	status = sud_resume(self->pid, PTRACE_SYSEMU_SINGLESTEP, 0);
	EXPECT_EQ('T', sud_stop(self->pid, status));
	EXPECT_EQ(0, sud_resume(self->pid, PTRACE_CONT, 0));
	EXPECT_EQ(SUD_EMULATED - self->pid, sud->flag);
}

TEST_F(permitted, number_changed_at_the_entry_stop_is_not_filtered_again)
{
	ASSERT_EQ('(', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SYSCALL, 0)));
	sud->selector = BLOCK;
	ASSERT_EQ(0, ptrace(PTRACE_POKEUSER, self->pid, USER_ORIG_AX, __NR_getpid));
	ASSERT_EQ(')', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SYSCALL, 0)));
	EXPECT_EQ(self->pid, ptrace(PTRACE_PEEKUSER, self->pid, USER_AX, NULL));
	sud->selector = ALLOW;
	EXPECT_EQ(0, sud_resume(self->pid, PTRACE_CONT, 0));
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(0, sud->flag);
}

TEST_F(permitted, syscall_armed_at_its_entry_stop_is_not_filtered)
{
	const struct sud_config off = { .mode = OFF };
	const struct sud_config config = sud_foreign_config(NULL);

	ASSERT_EQ(0, sud_set_config(self->pid, &off));
	ASSERT_EQ('(', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SYSCALL, 0)));
	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	EXPECT_EQ(')', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SYSCALL, 0)));
	EXPECT_EQ('S', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SYSCALL, 0)));
}

TEST_F(permitted, syscall_disarmed_at_its_entry_stop_has_its_exit_stop)
{
	const struct sud_config off = { .mode = OFF };
	char log[16];

	ASSERT_EQ('(', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SYSCALL, 0)));
	ASSERT_EQ(0, sud_set_config(self->pid, &off));
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_SYSCALL, 0, log, sizeof(log)));
	EXPECT_STREQ(")()(", log);
}

TEST_F(permitted, syscall_is_stepped_over)
{
	const long insn = (long)foreign_syscall_ip - SYSCALL_INSN_SIZE;
	int steps;

	for (steps = 0; steps < 1000; steps++) {
		ASSERT_EQ('T', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SINGLESTEP, 0)));
		if (ptrace(PTRACE_PEEKUSER, self->pid, USER_IP, NULL) == insn)
			break;
	}
	ASSERT_EQ('T', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SINGLESTEP, 0)));
	EXPECT_EQ((long)foreign_syscall_ip, ptrace(PTRACE_PEEKUSER, self->pid, USER_IP, NULL));
	EXPECT_EQ(getpid(), ptrace(PTRACE_PEEKUSER, self->pid, USER_AX, NULL));
}

/*
 * Tracers that come, or ask for more, in the middle of a dispatch: from there
 * on, each syscall has both its stops.
 */

TEST_F(tracee, permitted_syscalls_pair_after_cont_turns_into_syscall_at_the_sigsys_stop)
{
	char log[16];

	ASSERT_EQ('S', sud_stop(self->pid, sud_resume(self->pid, PTRACE_CONT, 0)));
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_SYSCALL, SIGSYS, log, sizeof(log)));
	EXPECT_STREQ("()()(", log);
}

TEST_F(tracee, permitted_syscalls_pair_after_a_suppressed_sigsys)
{
	char log[16];

	ASSERT_EQ('S', sud_stop(self->pid, sud_resume(self->pid, PTRACE_CONT, 0)));
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_SYSCALL, 0, log, sizeof(log)));
	EXPECT_STREQ("()(", log);
}

static void wait_in_handler(siginfo_t *info, ucontext_t *uc)
{
	sud_set_flag(1);
	sud_await_flag(2);
}

static void dispatch_untraced(void)
{
	sud_arm_foreign(NULL);
	sud_dispatch_and_call();
	sud_exit(0);
}

TEST(permitted_syscalls_pair_after_seizing_in_the_handler)
{
	char log[16];
	int status;
	pid_t pid;

	ASSERT_EQ(0, sud_handle(wait_in_handler));
	pid = sud_fork();
	if (!pid)
		dispatch_untraced();
	sud_await_flag(1);
	ASSERT_EQ(0, sud_ptrace(PTRACE_SEIZE, pid, 0, (void *)PTRACE_O_TRACESYSGOOD));
	ASSERT_EQ(0, sud_ptrace(PTRACE_INTERRUPT, pid, 0, NULL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(PTRACE_EVENT_STOP, status >> 16);
	sud_set_flag(2);
	EXPECT_EQ(0, sud_log_stops(pid, PTRACE_SYSCALL, 0, log, sizeof(log)));
	EXPECT_STREQ("()()(", log);
}

static void disarm(siginfo_t *info, ucontext_t *uc)
{
	sud_prctl(OFF, 0, 0, NULL);
}

TEST_F(tracee, permitted_syscalls_pair_after_disarming_in_the_handler)
{
	char log[16];

	ASSERT_EQ('S', sud_stop(self->pid, sud_resume(self->pid, PTRACE_CONT, 0)));
	sud->hook = disarm;
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_SYSCALL, SIGSYS, log, sizeof(log)));
	EXPECT_STREQ("()()()(", log);
}

TEST_F(tracee, permitted_syscalls_pair_after_a_switch_of_modes)
{
	const struct sud_config off = { .mode = OFF };
	const struct sud_config exempt = { .mode = EXCLUSIVE, .len = -1UL };
	char log[16];

	ASSERT_EQ('S', sud_stop(self->pid, sud_resume(self->pid, PTRACE_CONT, 0)));
	ASSERT_EQ(0, sud_set_config(self->pid, &off));
	ASSERT_EQ(0, sud_set_config(self->pid, &exempt));
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_SYSCALL, SIGSYS, log, sizeof(log)));
	EXPECT_STREQ("()()(", log);
}

TEST_HARNESS_MAIN
