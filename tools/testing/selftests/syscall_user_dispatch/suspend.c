// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: a tracer that suspends it, to have its tracee make
 * syscalls that are not the program's own
 */
#include "sud_hold.h"

/* Foreign calls, after each of which the tracer may do something */
static void call_and_stop(void)
{
	for (;;) {
		sud->result = foreign_syscall(__NR_getppid);
		native_syscall(__NR_kill, (long)getpid(), (long)SIGSTOP);
	}
}

FIXTURE(tracee) {
	pid_t pid;
	struct sud_config config;
};

FIXTURE_VARIANT(tracee) {
	const char *selector;
};

static const char bad = 2;

FIXTURE_VARIANT_ADD(tracee, that_would_be_dispatched) {
	.selector = NULL,
};

FIXTURE_VARIANT_ADD(tracee, that_would_be_killed) {
	.selector = &bad,
};

FIXTURE_VARIANT_ADD(tracee, that_would_be_killed_for_want_of_a_selector) {
	.selector = (const char *)1,
};

FIXTURE_SETUP(tracee)
{
	ASSERT_EQ(0, sud_handle(sud_emulate));
	self->config = sud_foreign_config(variant->selector);
	self->pid = sud_tracee(call_and_stop);
	ASSERT_LT(0, self->pid);
	ASSERT_EQ(0, sud_set_config(self->pid, &self->config));
	ASSERT_EQ(0, sud_set_options(self->pid, SUSPEND));
}

FIXTURE_TEARDOWN(tracee)
{
	sud_kill_tracee(self->pid);
}

static bool stops_for_sigstop(pid_t pid)
{
	int status = sud_resume(pid, PTRACE_CONT, 0);

	return WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP;
}

TEST_F(tracee, makes_its_syscalls_natively)
{
	ASSERT_TRUE(stops_for_sigstop(self->pid));
	EXPECT_EQ(getpid(), sud->result);
	EXPECT_EQ(0, sud->dispatches);
}

TEST_F(tracee, keeps_its_configuration)
{
	struct sud_config config;

	ASSERT_EQ(0, sud_get_config(self->pid, &config));
	EXPECT_EQ(0, memcmp(&config, &self->config, sizeof(config)));
	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	ASSERT_TRUE(stops_for_sigstop(self->pid));
	EXPECT_EQ(getpid(), sud->result);
}

/* What becomes of the next foreign call of a tracee that is on its own again */
static void expect_dispatch_or_death(struct __test_metadata *_metadata, const char *selector,
				     int status)
{
	int signal = selector && selector != &bad ? SIGSEGV : SIGSYS;

	EXPECT_EQ(!selector, WIFSTOPPED(status));
	EXPECT_EQ(signal, selector ? sud_killed_by(status) : WSTOPSIG(status));
}

TEST_F(tracee, goes_on_without_the_option)
{
	ASSERT_TRUE(stops_for_sigstop(self->pid));
	/* All options are replaced. */
	ASSERT_EQ(0, sud_set_options(self->pid, 0));
	expect_dispatch_or_death(_metadata, variant->selector,
				 sud_resume(self->pid, PTRACE_CONT, 0));
}

TEST_F(tracee, goes_on_when_it_is_detached)
{
	int status;

	ASSERT_TRUE(stops_for_sigstop(self->pid));
	ASSERT_EQ(0, sud_ptrace(PTRACE_DETACH, self->pid, 0, NULL));
	ASSERT_EQ(self->pid, waitpid(self->pid, &status, WUNTRACED));
	if (variant->selector) {
		expect_dispatch_or_death(_metadata, variant->selector, status);
	} else {
		/* It stopped itself after the dispatch. */
		EXPECT_TRUE(WIFSTOPPED(status));
		EXPECT_EQ(SUD_EMULATED, sud->result);
		EXPECT_EQ(1, sud->dispatches);
	}
}

TEST(an_option_that_is_unknown_is_einval)
{
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(call_and_stop);
	ASSERT_LT(0, pid);
	EXPECT_EQ(-EINVAL, sud_set_options(pid, 1UL << 23));
	EXPECT_EQ(0, sud_set_options(pid, SUSPEND));
	EXPECT_EQ(pid, sud_kill_tracee(pid));
}

/*
 * What a debugger does to call a function, and CRIU to run its parasite: the
 * syscall is that of whoever changed the registers.
 */
static void wait_for_ever(void)
{
	sud_await_flag(1);
}

TEST(a_syscall_that_is_injected_runs)
{
	const struct sud_config config = sud_foreign_config(NULL);
	struct user_regs_struct regs, before;
	pid_t pid;

	ASSERT_EQ(0, sud_handle(sud_emulate));
	pid = sud_tracee(wait_for_ever);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_set_config(pid, &config));
	ASSERT_EQ(0, sud_ptrace(PTRACE_GETREGS, pid, 0, &before));
	regs = before;
	regs.R_AX = __NR_getppid;
	regs.R_ORIG_AX = -1;
	regs.R_IP = (unsigned long)foreign_syscall_ip - SYSCALL_INSN_SIZE;
	ASSERT_EQ(0, sud_ptrace(PTRACE_SETREGS, pid, 0, &regs));
	ASSERT_EQ(0, sud_set_options(pid, SUSPEND));
	EXPECT_EQ('T', sud_stop(pid, sud_resume(pid, PTRACE_SINGLESTEP, 0)));
	ASSERT_EQ(0, sud_ptrace(PTRACE_GETREGS, pid, 0, &regs));
	EXPECT_EQ(getpid(), regs.R_AX);
	EXPECT_EQ((unsigned long)foreign_syscall_ip, regs.R_IP);
	ASSERT_EQ(0, sud_ptrace(PTRACE_SETREGS, pid, 0, &before));
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(pid, sud_kill_tracee(pid));
}

/*
 * A tracer that dies
 */

/* Attach to @pid as a tracer that suspends it, and go on until killed. */
static int suspend_until_killed(const void *arg)
{
	pid_t pid = *(const pid_t *)arg;

	if (sud_ptrace(PTRACE_SEIZE, pid, 0, (void *)SUSPEND))
		return 1;
	sud_set_flag(1);
	for (;;)
		pause();
}

static void install_handler(int sig, void (*handler)(int), int flags)
{
	struct sigaction act = { .sa_handler = handler, .sa_flags = flags };

	sigaction(sig, &act, NULL);
}

static void nothing(int sig)
{
}

/*
 * A call under way goes on natively. What restarts it is a syscall of the
 * program, and is dispatched.
 */
TEST(a_tracer_that_dies_leaves_the_program_to_itself)
{
	pid_t pid, tracer;
	int fd[2], status;

	ASSERT_EQ(0, sud_handle(sud_emulate));
	ASSERT_EQ(0, pipe(fd));
	pid = sud_fork();
	if (!pid) {
		install_handler(SIGUSR1, nothing, SA_RESTART);
		sud_await_flag(1);
		sud_arm_foreign(NULL);
		sud->result = foreign_syscall(__NR_read, (long)fd[0], (long)&status, 1L);
		sud_exit(0);
	}
	tracer = sud_fork();
	if (!tracer)
		_exit(suspend_until_killed(&pid));
	ASSERT_TRUE(sud_await_flag_of(tracer, 1));
	ASSERT_TRUE(sud_await_sleep(pid, __NR_read));
	EXPECT_EQ(tracer, sud_kill_tracee(tracer));
	EXPECT_EQ(0, sud->dispatches);
	ASSERT_EQ(0, kill(pid, SIGUSR1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(SUD_EMULATED, sud->result);
	EXPECT_EQ(1, sud->dispatches);
}

/*
 * The option is one thread's
 */

static void *call_in_thread(void *arg)
{
	sud_arm_foreign(NULL);
	*(long *)arg = foreign_syscall(__NR_getppid);
	return NULL;
}

static void call_with_a_thread_beside(void)
{
	pthread_t thread;
	long result = 0;

	sud_arm_foreign(NULL);
	sud->result = foreign_syscall(__NR_getppid);
	pthread_create(&thread, NULL, call_in_thread, &result);
	pthread_join(thread, NULL);
	sud->tid = result;
}

TEST(other_threads_are_not_concerned)
{
	pid_t pid;

	ASSERT_EQ(0, sud_handle(sud_emulate));
	pid = sud_tracee(call_with_a_thread_beside);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_set_options(pid, SUSPEND));
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, 0));
	EXPECT_EQ(getpid(), sud->result);
	EXPECT_EQ(SUD_EMULATED, sud->tid);
	EXPECT_EQ(1, sud->dispatches);
}

/*
 * The order
 */

static void call_held(void)
{
	sud->result = foreign_syscall(__NR_getppid);
}

/* It takes effect on a call whose selector is still awaited. */
TEST(the_selector_is_read_first)
{
	int status;
	pid_t pid;

	ASSERT_EQ(0, sud_handle(sud_emulate));
	if (!sud_can_hold())
		SKIP(return, SUD_CANNOT_HOLD);
	pid = sud_fork();
	if (!pid) {
		if (sud_hold(sud_hold_for_tracer)) {
			sud_arm_foreign(hold.selector);
			call_held();
		}
		sud_exit(0);
	}
	ASSERT_LT(0, pid);
	ASSERT_TRUE(sud_await_flag_of(pid, SUD_HELD));
	ASSERT_EQ(0, sud_ptrace(PTRACE_SEIZE, pid, 0, (void *)(SUSPEND | PTRACE_O_EXITKILL)));
	sud_set_flag(SUD_RELEASED);
	ASSERT_EQ(pid, waitpid(pid, &status, __WALL));
	EXPECT_EQ(0, status);
	EXPECT_EQ(getpid(), sud->result);
	EXPECT_EQ(0, sud->dispatches);
}

/* A dispatch that is queued already is delivered. */
TEST(a_dispatch_that_is_pending_stays)
{
	pid_t pid;

	ASSERT_EQ(0, sud_handle(sud_emulate));
	if (!sud_can_hold())
		SKIP(return, SUD_CANNOT_HOLD);
	pid = sud_held_tracee(call_held, false);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_set_options(pid, SUSPEND));
	ASSERT_EQ('S', sud_stop(pid, sud_resume(pid, PTRACE_CONT, 0)));
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, SIGSYS));
	EXPECT_EQ(SUD_EMULATED, sud->result);
	EXPECT_EQ(1, sud->dispatches);
}

static void fork_and_call(void)
{
	pid_t pid = fork();

	if (!pid) {
		sud_arm_foreign(NULL);
		sud->result = foreign_syscall(__NR_getppid) == native_syscall(__NR_getppid);
		sud_exit(0);
	}
	waitpid(pid, NULL, 0);
}

TEST(children_that_are_attached_by_themselves_inherit_it)
{
	int status;
	pid_t pid, child;

	ASSERT_EQ(0, sud_handle(sud_emulate));
	pid = sud_tracee(fork_and_call);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_set_options(pid, SUSPEND | PTRACE_O_TRACEFORK));
	ASSERT_EQ(SIGTRAP | PTRACE_EVENT_FORK << 8, sud_resume(pid, PTRACE_CONT, 0) >> 8);
	ASSERT_EQ(0, sud_ptrace(PTRACE_CONT, pid, 0, NULL));
	child = waitpid(-1, &status, __WALL);
	ASSERT_LT(0, child);
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_EQ(0, sud_resume(child, PTRACE_CONT, 0));
	EXPECT_EQ(1, sud->result);
	EXPECT_EQ(0, sud->dispatches);
	sud_kill_tracee(pid);
}

static void __attribute__((constructor)) suspend_init(void)
{
	pid_t pid = sud_tracee(call_and_stop);
	long ret = 0;

	/* If there can be no tracee, that is for the tests to say. */
	if (pid > 0) {
		ret = sud_set_options(pid, SUSPEND);
		sud_kill_tracee(pid);
	}
	if (ret) {
		ksft_print_header();
		ksft_exit_skip("the kernel lacks PTRACE_O_SUSPEND_SYSCALL_USER_DISPATCH\n");
	}
}

TEST_HARNESS_MAIN
