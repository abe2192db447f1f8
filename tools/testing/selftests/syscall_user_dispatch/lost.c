// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: no dispatch is lost to a SIGSYS from elsewhere
 */
#include <setjmp.h>
#include <sys/signalfd.h>

#include "sud_core.h"
#include "sud_entry.h"
#include "sud_hold.h"

/*
 * Another SIGSYS that arrives after the entry of a syscall and before the
 * dispatch, on each way into the kernel
 */

FIXTURE_SETUP(entry)
{
	if (!sud_has_int80())
		SKIP(return, "the kernel lacks CONFIG_IA32_EMULATION");
	if (!sud_can_hold())
		SKIP(return, SUD_CANNOT_HOLD);
	self->ip = sud_entry_ip(variant->stub, variant->getppid_nr);
	ASSERT_NE(0, self->ip);
}

FIXTURE_TEARDOWN(entry)
{
}

static void send_to_thread(void)
{
	syscall(__NR_tgkill, getpid(), hold.tid, SIGSYS);
}

static void send_to_process(void)
{
	kill(getpid(), SIGSYS);
}

/* Emulate the dispatched syscall. All that follow are permitted. */
static void emulate(siginfo_t *info, ucontext_t *uc)
{
	if (info->si_code != SYS_USER_DISPATCH)
		return;
	*hold.selector = ALLOW;
	sud_emulate(info, uc);
}

/* A syscall at @ip that is held, and dispatched, and the only one that is */
static long call_held(sud_stub *stub, unsigned long nr, unsigned long ip)
{
	long ret;

	sud_prctl(INCLUSIVE, ip, 1, hold.selector);
	ret = stub(nr);
	sud_prctl(OFF, 0, 0, NULL);
	return ret;
}

/* The result of a syscall that meets with @send. */
static long meet(void (*send)(void), sud_stub *stub, unsigned long nr, unsigned long ip)
{
	return sud_hold(send) ? call_held(stub, nr, ip) : -1;
}

TEST_F(entry, dispatch_comes_before_a_sigsys_of_another_thread)
{
	long ret;

	ASSERT_EQ(0, sud_handle(emulate));
	ret = meet(send_to_thread, variant->stub, variant->getppid_nr, self->ip);
	EXPECT_EQ(12, sud->order);
	EXPECT_EQ(SUD_EMULATED, ret);
	EXPECT_EQ((int)variant->getppid_nr, sud->info.si_syscall);
	EXPECT_EQ(self->ip, (unsigned long)sud->info.si_call_addr);
	EXPECT_EQ((long)self->ip, sud->regs[REG_IP]);
	EXPECT_EQ((long)variant->getppid_nr, sud->regs[REG_AX]);
}

TEST_F(entry, dispatch_comes_before_a_sigsys_for_the_process)
{
	long ret;

	ASSERT_EQ(0, sud_handle(emulate));
	ret = meet(send_to_process, variant->stub, variant->getppid_nr, self->ip);
	EXPECT_EQ(12, sud->order);
	EXPECT_EQ(SUD_EMULATED, ret);
}

/*
 * With SA_NODEFER, the frame of the other signal lies on that of the dispatch,
 * so its handler runs first, and is too late to prevent anything.
 */
static void permit(siginfo_t *info, ucontext_t *uc)
{
	if (info->si_code == SYS_USER_DISPATCH) {
		sud_emulate(info, uc);
		return;
	}
	sud->flag = uc->uc_mcontext.gregs[REG_IP] == (long)sud_handler;
	*hold.selector = ALLOW;
	sud_prctl(OFF, 0, 0, NULL);
}

TEST_F(entry, dispatch_comes_below_another_sigsys_with_sa_nodefer)
{
	long ret;

	ASSERT_EQ(0, sud_handle(permit));
	ASSERT_EQ(0, sud_sigaction(SIGSYS, sud_handler, SA_NODEFER));
	ret = meet(send_to_thread, variant->stub, variant->getppid_nr, self->ip);
	EXPECT_EQ(21, sud->order);
	EXPECT_EQ(1, sud->flag);
	EXPECT_EQ(SUD_EMULATED, ret);
	EXPECT_EQ((long)self->ip, sud->regs[REG_IP]);
	EXPECT_EQ((long)variant->getppid_nr, sud->regs[REG_AX]);
}

static sigjmp_buf away;

static void leave(siginfo_t *info, ucontext_t *uc)
{
	if (info->si_code != SYS_USER_DISPATCH) {
		*hold.selector = ALLOW;
		siglongjmp(away, 1);
	}
}

TEST_F(entry, nothing_remains_if_the_other_handler_does_not_return)
{
	ASSERT_EQ(0, sud_handle(leave));
	ASSERT_EQ(0, sud_sigaction(SIGSYS, sud_handler, SA_NODEFER));
	if (!sigsetjmp(away, 1)) {
		meet(send_to_thread, variant->stub, variant->getppid_nr, self->ip);
		ASSERT_TRUE(false);
	}
	EXPECT_EQ(2, sud->order);

	ASSERT_EQ(0, sud_prctl(INCLUSIVE, self->ip, 1, &sud->selector));
	EXPECT_EQ(1, sud_dispatches_nr(variant->stub, variant->getppid_nr));
	EXPECT_EQ(0, sud_dispatches_nr(native_int80, IA32_NR_getppid));
}

static struct {
	sud_stub *stub;
	unsigned long nr, ip;
} path;

static int meet_in_child(const void *arg)
{
	meet(send_to_thread, path.stub, path.nr, path.ip);
	return 0;
}

TEST_F(entry, other_sigsys_kills_after_the_dispatch_with_sa_resethand)
{
	path.stub = variant->stub;
	path.nr = variant->getppid_nr;
	path.ip = self->ip;
	ASSERT_EQ(0, sud_handle(emulate));
	ASSERT_EQ(0, sud_sigaction(SIGSYS, sud_handler, SA_RESETHAND));
	EXPECT_EQ(SIGSYS, sud_killed_by(sud_run(meet_in_child, NULL)));
	EXPECT_EQ(1, sud->order);
}

/*
 * A sibling that keeps on sending, beside one SIGSYS for each call that is there
 * for certain. Each call has a number of its own.
 */

static bool flooding;

static void *flood(void *arg)
{
	/* On one processor, each call would otherwise wait for the end of time slices. */
	while (__atomic_load_n(&flooding, __ATOMIC_RELAXED)) {
		send_to_thread();
		sched_yield();
	}
	return NULL;
}

#define FLOOD_FIRST	0x10000
#define FLOOD_CALLS	200

TEST_F(entry, each_dispatch_comes_once_in_a_flood_of_others)
{
	pthread_t thread;
	long ret;
	int i;

	ASSERT_EQ(0, sud_handle(emulate));
	ASSERT_TRUE(sud_hold(send_to_thread));
	flooding = true;
	ASSERT_EQ(0, sud_thread_without_signals(&thread, flood, NULL));
	for (i = 0; i < FLOOD_CALLS; i++) {
		ret = call_held(variant->stub, FLOOD_FIRST + i, self->ip);
		ASSERT_EQ(SUD_EMULATED, ret);
		ASSERT_EQ(i + 1, sud->dispatches);
		ASSERT_EQ(FLOOD_FIRST + i, sud->info.si_syscall);
		ASSERT_TRUE(sud_hold_again());
	}
	EXPECT_LE(FLOOD_CALLS, sud->others);
	__atomic_store_n(&flooding, false, __ATOMIC_RELAXED);
	EXPECT_EQ(0, pthread_join(thread, NULL));
}

/*
 * Over the limit of pending signals
 */

static bool allow_no_pending_signals(void)
{
	const struct rlimit none = { 0, 0 };

	return !setrlimit(RLIMIT_SIGPENDING, &none);
}

TEST_F(entry, dispatch_comes_whole_over_the_limit_of_pending_signals)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_TRUE(allow_no_pending_signals());
	ASSERT_EQ(0, sud_prctl(INCLUSIVE, self->ip, 1, &sud->selector));
	EXPECT_EQ(1, sud_dispatches_nr(variant->stub, variant->getppid_nr));
	EXPECT_EQ(1, sud->order);
	EXPECT_EQ((int)variant->getppid_nr, sud->info.si_syscall);
	EXPECT_EQ(self->ip, (unsigned long)sud->info.si_call_addr);
}

/* Another SIGSYS has no siginfo then, so it cannot be told from the dispatch. */
TEST_F(entry, dispatch_takes_the_place_of_a_sigsys_without_siginfo)
{
	long ret;

	ASSERT_EQ(0, sud_handle(emulate));
	ASSERT_TRUE(allow_no_pending_signals());
	ret = meet(send_to_thread, variant->stub, variant->getppid_nr, self->ip);
	EXPECT_EQ(1, sud->order);
	EXPECT_EQ(SUD_EMULATED, ret);
	EXPECT_EQ((int)variant->getppid_nr, sud->info.si_syscall);
	EXPECT_EQ(self->ip, (unsigned long)sud->info.si_call_addr);
}

/*
 * Seen by a tracer, to whom each makes a stop of its own
 */

FIXTURE(tracee) {
};

FIXTURE_SETUP(tracee)
{
	if (!sud_can_hold())
		SKIP(return, SUD_CANNOT_HOLD);
	ASSERT_EQ(0, sud_handle(emulate));
}

FIXTURE_TEARDOWN(tracee)
{
}

static void call_foreign(void)
{
	sud->result = foreign_syscall(__NR_getppid);
}

TEST_F(tracee, dispatch_and_another_sigsys_make_a_stop_each)
{
	pid_t pid = sud_held_tracee(call_foreign, true);

	ASSERT_LT(0, pid);
	ASSERT_EQ(SYS_USER_DISPATCH, sud_sigsys_code(pid, sud_resume(pid, PTRACE_CONT, 0)));
	ASSERT_EQ(SI_TKILL, sud_sigsys_code(pid, sud_resume(pid, PTRACE_CONT, SIGSYS)));
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, SIGSYS));
	EXPECT_EQ(12, sud->order);
	EXPECT_EQ(SUD_EMULATED, sud->result);
}

TEST_F(tracee, dispatch_comes_if_the_other_sigsys_is_suppressed)
{
	pid_t pid = sud_held_tracee(call_foreign, true);

	ASSERT_LT(0, pid);
	ASSERT_EQ(SYS_USER_DISPATCH, sud_sigsys_code(pid, sud_resume(pid, PTRACE_CONT, 0)));
	ASSERT_EQ(SI_TKILL, sud_sigsys_code(pid, sud_resume(pid, PTRACE_CONT, SIGSYS)));
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, 0));
	EXPECT_EQ(1, sud->order);
	EXPECT_EQ(SUD_EMULATED, sud->result);
}

TEST_F(tracee, other_sigsys_comes_if_the_dispatch_is_suppressed)
{
	pid_t pid = sud_held_tracee(call_foreign, true);

	ASSERT_LT(0, pid);
	ASSERT_EQ(SYS_USER_DISPATCH, sud_sigsys_code(pid, sud_resume(pid, PTRACE_CONT, 0)));
	ASSERT_EQ(SI_TKILL, sud_sigsys_code(pid, sud_resume(pid, PTRACE_CONT, 0)));
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, SIGSYS));
	EXPECT_EQ(2, sud->order);
	EXPECT_EQ(__NR_getppid, sud->result);
}

/*
 * The order of what is pending: the dispatch is in front of all, since its
 * handler is to find the registers of the syscall. That includes signals which
 * look like faults of the thread's own.
 */

static void queue_sigtrap(void)
{
	siginfo_t info = { .si_signo = SIGTRAP, .si_code = TRAP_BRKPT };
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTRAP);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	syscall(__NR_rt_tgsigqueueinfo, getpid(), gettid(), SIGTRAP, &info);
}

static void queue_sigtrap_and_call(void)
{
	queue_sigtrap();
	call_foreign();
}

static long set_sigmask(pid_t pid, int sig)
{
	__u64 mask = sig ? 1ULL << (sig - 1) : 0;

	return sud_ptrace(PTRACE_SETSIGMASK, pid, sizeof(mask), &mask);
}

TEST_F(tracee, dispatch_is_pending_before_an_earlier_sigtrap_and_another_sigsys)
{
	struct __ptrace_peeksiginfo_args args = { .nr = 4 };
	siginfo_t info[4];
	pid_t pid;

	ASSERT_EQ(0, sud_sigaction(SIGTRAP, sud_handler, 0));
	pid = sud_held_tracee(queue_sigtrap_and_call, true);
	ASSERT_LT(0, pid);
	ASSERT_EQ(3, sud_ptrace(PTRACE_PEEKSIGINFO, pid, (unsigned long)&args, info));
	EXPECT_EQ(SIGSYS, info[0].si_signo);
	EXPECT_EQ(SYS_USER_DISPATCH, info[0].si_code);
	EXPECT_EQ(SIGTRAP, info[1].si_signo);
	EXPECT_EQ(SIGSYS, info[2].si_signo);
	EXPECT_EQ(SI_TKILL, info[2].si_code);

	/* And that is how it arrives. */
	ASSERT_EQ(0, set_sigmask(pid, 0));
	ASSERT_EQ(SYS_USER_DISPATCH, sud_sigsys_code(pid, sud_resume(pid, PTRACE_CONT, 0)));
	ASSERT_EQ('T', sud_stop(pid, sud_resume(pid, PTRACE_CONT, SIGSYS)));
	ASSERT_EQ(SI_TKILL, sud_sigsys_code(pid, sud_resume(pid, PTRACE_CONT, 0)));
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, SIGSYS));
	EXPECT_EQ(12, sud->order);
	EXPECT_EQ(SUD_EMULATED, sud->result);
}

/* Blocked, it stays pending, and does not come in place of the dispatch. */

static int call_beside_sigtrap(const void *arg)
{
	queue_sigtrap();
	sud_arm_foreign(NULL);
	return foreign_syscall(__NR_getppid) != SUD_EMULATED;
}

TEST(dispatch_does_not_deliver_a_blocked_sigtrap)
{
	ASSERT_EQ(0, sud_handle(sud_emulate));
	EXPECT_EQ(0, sud_run(call_beside_sigtrap, NULL));
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(0, sud->others);
}

static void leave_by_exit(int sig, siginfo_t *info, void *context)
{
	sud_exit(info->si_code == SEGV_MAPERR ? 0 : 2);
}

static void fault(void)
{
	asm volatile("movb $0, 8");
}

static int fault_beside_sigtrap(const void *arg)
{
	sud_sigaction(SIGSEGV, leave_by_exit, 0);
	queue_sigtrap();
	fault();
	return 1;
}

TEST(fault_does_not_deliver_a_blocked_sigtrap)
{
	EXPECT_EQ(0, sud_run(fault_beside_sigtrap, NULL));
}

/*
 * SIGSYS blocked by the tracer, at the stop of the dispatch. It remains pending
 * then, and so does another that has come since.
 */

static pid_t block_at_the_stop(void (*fn)(void))
{
	pid_t pid = sud_held_tracee(fn, false);

	if (pid < 0 || sud_sigsys_code(pid, sud_resume(pid, PTRACE_CONT, 0)) != SYS_USER_DISPATCH)
		return -1;
	if (syscall(__NR_tgkill, pid, pid, SIGSYS) || set_sigmask(pid, SIGSYS))
		return -1;
	return pid;
}

static void call_and_unblock(void)
{
	sigset_t none;

	call_foreign();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

TEST_F(tracee, dispatch_and_another_sigsys_that_a_tracer_blocks_both_come_later)
{
	pid_t pid = block_at_the_stop(call_and_unblock);

	ASSERT_LT(0, pid);
	ASSERT_EQ(SYS_USER_DISPATCH, sud_sigsys_code(pid, sud_resume(pid, PTRACE_CONT, SIGSYS)));
	EXPECT_EQ(__NR_getppid, sud->result);
	ASSERT_EQ(SI_TKILL, sud_sigsys_code(pid, sud_resume(pid, PTRACE_CONT, SIGSYS)));
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, SIGSYS));
	EXPECT_EQ(12, sud->order);
}

/* A fault meanwhile is handled, and delivers neither. */
static void call_and_fault(void)
{
	sud_sigaction(SIGSEGV, leave_by_exit, 0);
	call_foreign();
	fault();
}

TEST_F(tracee, fault_is_handled_while_a_tracer_blocks_the_dispatch)
{
	pid_t pid = block_at_the_stop(call_and_fault);

	ASSERT_LT(0, pid);
	EXPECT_EQ(0, sud_resume(pid, PTRACE_DETACH, SIGSYS));
	EXPECT_EQ(0, sud->order);
}

/* Counts on them as the handler does; what they tell of itself is in sud->info. */
static void call_and_fetch(void)
{
	struct signalfd_siginfo fetched[3];
	const struct timespec none = { 0, 0 };
	sigset_t mask;
	ssize_t len;
	int fd, i;

	call_foreign();
	sigemptyset(&mask);
	sigaddset(&mask, SIGSYS);
	if (sigtimedwait(&mask, &sud->info, &none) == SIGSYS)
		sud->order = sud->info.si_code == SYS_USER_DISPATCH ? 1 : 2;
	fd = signalfd(-1, &mask, SFD_NONBLOCK);
	len = read(fd, fetched, sizeof(fetched));
	for (i = 0; i < len / (ssize_t)sizeof(*fetched); i++)
		sud->order = 10 * sud->order +
			(fetched[i].ssi_code == SYS_USER_DISPATCH ? 1 : 2);
}

TEST_F(tracee, dispatch_and_another_sigsys_that_a_tracer_blocks_can_be_fetched)
{
	pid_t pid = block_at_the_stop(call_and_fetch);

	ASSERT_LT(0, pid);
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, SIGSYS));
	EXPECT_EQ(12, sud->order);
	EXPECT_EQ(__NR_getppid, sud->info.si_syscall);
	EXPECT_TRUE(sud->info.si_call_addr == foreign_syscall_ip);
}

/*
 * SIGSYS blocked, and another pending: what the core tells is the dispatch.
 */

static int raise_and_call(const void *arg)
{
	sud_cores_allow();
	raise(SIGSYS);
	sud_arm_foreign(NULL);
	foreign_syscall(__NR_getppid);
	return 0;
}

TEST(blocked_and_pending_before_kills_by_the_dispatch)
{
	sigset_t mask;
	int status;
	pid_t pid;

	if (!sud_cores_begin())
		SKIP(return, SUD_NO_CORES);
	ASSERT_EQ(0, sud_handle(NULL));
	sigemptyset(&mask);
	sigaddset(&mask, SIGSYS);
	ASSERT_EQ(0, sigprocmask(SIG_BLOCK, &mask, NULL));
	pid = sud_fork();
	if (!pid)
		_exit(raise_and_call(NULL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGSYS, sud_killed_by(status));
	EXPECT_TRUE(sud_core_names_dispatch(pid));
	EXPECT_EQ(0, sud->order);
	sud_cores_end();
}

/*
 * A sibling that waits for SIGSYS does not get dispatches.
 */

static void *wait_for_sigsys(void *arg)
{
	sigset_t mask;
	siginfo_t info;

	sigemptyset(&mask);
	sigaddset(&mask, SIGSYS);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	__atomic_store_n(&sud->tid, gettid(), __ATOMIC_RELEASE);
	syscall(__NR_rt_sigtimedwait, &mask, &info, NULL, sizeof(__u64));
	sud->flag = info.si_code;
	return NULL;
}

TEST(sibling_that_waits_for_sigsys_gets_its_own)
{
	pthread_t thread;
	int i;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, pthread_create(&thread, NULL, wait_for_sigsys, NULL));
	while (!__atomic_load_n(&sud->tid, __ATOMIC_ACQUIRE))
		sched_yield();
	ASSERT_TRUE(sud_await_sleep(sud->tid, __NR_rt_sigtimedwait));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	for (i = 0; i < 100; i++)
		EXPECT_EQ(__NR_getppid, foreign_syscall(__NR_getppid));
	EXPECT_EQ(100, sud->dispatches);
	EXPECT_EQ(0, sud->flag);
	syscall(__NR_tgkill, getpid(), sud->tid, SIGSYS);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(SI_TKILL, sud->flag);
	EXPECT_EQ(0, sud->others);
}

TEST_HARNESS_MAIN
