// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: what the handler of a dispatched syscall sees, and
 * what becomes of what it changes
 */
#include "sud_hold.h"

/* Condition codes, which a program may set as it likes */
#define FLAGS_MASK	0x8d5UL

/* The general registers that a stub loads, all but the number */
static const int general_regs[] = {
#ifdef __x86_64__
	REG_R8, REG_R9, REG_R10, REG_R12, REG_R13, REG_R14, REG_R15,
	REG_RDI, REG_RSI, REG_RBP, REG_RBX, REG_RDX,
#else
	REG_EDI, REG_ESI, REG_EBP, REG_EBX, REG_EDX, REG_ECX,
#endif
};

static void fill_regs(greg_t *regs, unsigned long long seed)
{
	int i;

	memset(regs, 0, sizeof(gregset_t));
	for (i = 0; i < ARRAY_SIZE(general_regs); i++)
		regs[general_regs[i]] = seed * (i + 1);
	regs[REG_EFL] = seed & FLAGS_MASK;
}

static bool regs_equal(const greg_t *a, const greg_t *b)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(general_regs); i++) {
		if (a[general_regs[i]] != b[general_regs[i]])
			return false;
	}
	return (a[REG_EFL] & FLAGS_MASK) == (b[REG_EFL] & FLAGS_MASK);
}

/* Patterns with other bits in all bytes, and other condition codes */
#define BEFORE	0xa5c396e17b4d28c5ULL
#define AFTER	0x4b29d7f81c63e590ULL

TEST(siginfo_tells_code_address_number_and_architecture)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	foreign_syscall(__NR_getppid);
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(SIGSYS, sud->info.si_signo);
	EXPECT_EQ(SYS_USER_DISPATCH, sud->info.si_code);
	EXPECT_EQ(0, sud->info.si_errno);
	EXPECT_TRUE(sud->info.si_call_addr == foreign_syscall_ip);
	EXPECT_EQ(__NR_getppid, sud->info.si_syscall);
	EXPECT_EQ(SUD_ARCH, sud->info.si_arch);
}

/* And nothing else, also where it has holes, and behind its end */
static siginfo_t whole_siginfo(const void *address, int number)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_signo = SIGSYS;
	info.si_code = SYS_USER_DISPATCH;
	info.si_call_addr = (void *)address;
	info.si_syscall = number;
	info.si_arch = SUD_ARCH;
	return info;
}

TEST(siginfo_is_zero_elsewhere_in_the_frame)
{
	const siginfo_t expected = whole_siginfo(foreign_syscall_ip, 0xffff);

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	foreign_syscall(0xffff);
	EXPECT_EQ(0, memcmp(&expected, &sud->info, sizeof(expected)));
}

static void dispatch_number(void)
{
	foreign_syscall(0xffff);
}

TEST(siginfo_is_zero_elsewhere_for_a_tracer)
{
	const siginfo_t expected = whole_siginfo(foreign_syscall_ip, 0xffff);
	struct __ptrace_peeksiginfo_args args = { .nr = 1 };
	siginfo_t info;
	pid_t pid;

	if (!sud_can_hold())
		SKIP(return, SUD_CANNOT_HOLD);
	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_held_tracee(dispatch_number, false);
	ASSERT_LT(0, pid);

	/* While it is pending, and at its stop */
	memset(&info, 0xff, sizeof(info));
	ASSERT_EQ(1, sud_ptrace(PTRACE_PEEKSIGINFO, pid, (unsigned long)&args, &info));
	EXPECT_EQ(0, memcmp(&expected, &info, sizeof(expected)));
	ASSERT_EQ('S', sud_stop(pid, sud_resume(pid, PTRACE_CONT, 0)));
	memset(&info, 0xff, sizeof(info));
	ASSERT_EQ(0, sud_ptrace(PTRACE_GETSIGINFO, pid, 0, &info));
	EXPECT_EQ(0, memcmp(&expected, &info, sizeof(expected)));
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, SIGSYS));
	EXPECT_EQ(1, sud->dispatches);
}

TEST(number_reaches_siginfo_as_int_and_rax_in_full)
{
	static const unsigned long numbers[] = {
		0, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, -1UL, -511UL, -515UL, -517UL,
#ifdef __x86_64__
		1UL << 32, 0x123456789abcdef0,
#endif
	};
	int i;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		EXPECT_EQ(numbers[i], foreign_syscall(numbers[i]));
		EXPECT_EQ(numbers[i], sud->regs[REG_AX]);
		EXPECT_EQ((int)numbers[i], sud->info.si_syscall);
		EXPECT_EQ(i + 1, sud->dispatches);
	}
}

TEST(registers_are_as_at_the_instruction)
{
	gregset_t regs, expected;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	fill_regs(expected, BEFORE);
	memcpy(regs, expected, sizeof(regs));
	foreign_regs(regs);
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_TRUE(regs_equal(expected, sud->regs));
	EXPECT_EQ((long)foreign_regs_ip, sud->regs[REG_IP]);

	/* The handler left them alone, so they are still the same after it. */
	EXPECT_TRUE(regs_equal(expected, regs));
}

#ifdef __x86_64__
TEST(rcx_and_r11_are_rip_and_rflags_after_the_instruction)
{
	gregset_t regs;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	fill_regs(regs, BEFORE);
	foreign_regs(regs);
	EXPECT_EQ((long)foreign_regs_ip, sud->regs[REG_RCX]);
	EXPECT_EQ(sud->regs[REG_EFL], sud->regs[REG_R11]);
	EXPECT_EQ(sud->regs[REG_RCX], regs[REG_RCX]);
	EXPECT_EQ(sud->regs[REG_R11], regs[REG_R11]);
}
#endif

TEST(syscall_left_alone_returns_its_own_number)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	EXPECT_EQ(__NR_getppid, foreign_syscall(__NR_getppid));
	EXPECT_EQ(0xffff, foreign_syscall(0xffff));
}

TEST(handler_sets_the_result)
{
	ASSERT_EQ(0, sud_handle(sud_emulate));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	EXPECT_EQ(SUD_EMULATED, foreign_syscall(__NR_getppid));
	EXPECT_EQ(1, sud->dispatches);
}

static void change_registers(siginfo_t *info, ucontext_t *uc)
{
	greg_t *regs = uc->uc_mcontext.gregs;
	greg_t ip = regs[REG_IP], sp = regs[REG_SP], flags = regs[REG_EFL];
	gregset_t changed;
	int i;

	fill_regs(changed, AFTER);
	for (i = 0; i < ARRAY_SIZE(general_regs); i++)
		regs[general_regs[i]] = changed[general_regs[i]];
	regs[REG_EFL] = (flags & ~FLAGS_MASK) | changed[REG_EFL];
	regs[REG_IP] = ip;
	regs[REG_SP] = sp;
}

TEST(handler_sets_any_register)
{
	gregset_t regs, expected;

	ASSERT_EQ(0, sud_handle(change_registers));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	fill_regs(regs, BEFORE);
	fill_regs(expected, AFTER);
	foreign_regs(regs);
	EXPECT_TRUE(regs_equal(expected, regs));
}

TEST(handler_steps_back_and_the_instruction_is_judged_again)
{
	ASSERT_EQ(0, sud_handle(sud_repeat));
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));

	/* The handler has the selector say allow. */
	sud->selector = BLOCK;
	EXPECT_EQ(getppid(), foreign_syscall(__NR_getppid));
	EXPECT_EQ(1, sud->dispatches);
}

static void block_sigusr1(siginfo_t *info, ucontext_t *uc)
{
	sigaddset(&uc->uc_sigmask, SIGUSR1);
}

TEST(handler_sets_the_signal_mask)
{
	sigset_t mask;

	ASSERT_EQ(0, sud_handle(block_sigusr1));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	foreign_syscall(__NR_getppid);
	ASSERT_EQ(0, sigprocmask(SIG_BLOCK, NULL, &mask));
	EXPECT_TRUE(sigismember(&mask, SIGUSR1));
	EXPECT_FALSE(sigismember(&mask, SIGSYS));
}

static void disarm(siginfo_t *info, ucontext_t *uc)
{
	sud_prctl(OFF, 0, 0, NULL);
	sud_repeat(info, uc);
}

TEST(handler_disarms)
{
	ASSERT_EQ(0, sud_handle(disarm));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	EXPECT_EQ(getppid(), foreign_syscall(__NR_getppid));
	EXPECT_EQ(getppid(), foreign_syscall(__NR_getppid));
	EXPECT_EQ(1, sud->dispatches);
}

static int dispatch(const void *arg)
{
	sud_arm_foreign(NULL);
	foreign_syscall(__NR_getppid);
	return 0;
}

TEST(sigsys_blocked_kills)
{
	sigset_t mask;

	ASSERT_EQ(0, sud_handle(NULL));
	sigemptyset(&mask);
	sigaddset(&mask, SIGSYS);
	ASSERT_EQ(0, sigprocmask(SIG_BLOCK, &mask, NULL));
	EXPECT_EQ(SIGSYS, sud_killed_by(sud_run(dispatch, NULL)));
	EXPECT_EQ(0, sud->dispatches);
}

static int dispatch_with_sigsys_pending(const void *arg)
{
	raise(SIGSYS);
	return dispatch(arg);
}

TEST(sigsys_blocked_and_pending_kills)
{
	sigset_t mask;

	ASSERT_EQ(0, sud_handle(NULL));
	sigemptyset(&mask);
	sigaddset(&mask, SIGSYS);
	ASSERT_EQ(0, sigprocmask(SIG_BLOCK, &mask, NULL));
	EXPECT_EQ(SIGSYS, sud_killed_by(sud_run(dispatch_with_sigsys_pending, NULL)));
	EXPECT_EQ(0, sud->dispatches + sud->others);
}

TEST(sigsys_ignored_kills)
{
	ASSERT_TRUE(signal(SIGSYS, SIG_IGN) != SIG_ERR);
	EXPECT_EQ(SIGSYS, sud_killed_by(sud_run(dispatch, NULL)));
}

TEST(sigsys_default_kills)
{
	ASSERT_TRUE(signal(SIGSYS, SIG_DFL) != SIG_ERR);
	EXPECT_EQ(SIGSYS, sud_killed_by(sud_run(dispatch, NULL)));
}

static void dispatch_again(siginfo_t *info, ucontext_t *uc)
{
	if (sud->dispatches < 3)
		foreign_syscall(__NR_getppid);
}

TEST(dispatch_in_the_handler_kills)
{
	ASSERT_EQ(0, sud_handle(dispatch_again));
	EXPECT_EQ(SIGSYS, sud_killed_by(sud_run(dispatch, NULL)));
	EXPECT_EQ(1, sud->dispatches);
}

TEST(dispatch_in_the_handler_with_sa_nodefer_nests)
{
	ASSERT_EQ(0, sud_handle(dispatch_again));
	ASSERT_EQ(0, sud_sigaction(SIGSYS, sud_handler, SA_NODEFER));
	EXPECT_EQ(0, sud_run(dispatch, NULL));
	EXPECT_EQ(3, sud->dispatches);
}

/*
 * SIGUSR1 comes in while SIGSYS is being delivered: the tracer sends it from
 * the stop that precedes this.
 */

static void note_selector(int sig, siginfo_t *info, void *context)
{
	sud->flag = sud->selector;
}

static void dispatch_blocked(void)
{
	sud_arm_foreign(&sud->selector);
	sud->selector = BLOCK;
	foreign_syscall(__NR_getppid);
}

static pid_t deliver_sigsys_and_sigusr1(void)
{
	pid_t pid = sud_tracee(dispatch_blocked);

	if (pid < 0 || sud_stop(pid, sud_resume(pid, PTRACE_CONT, 0)) != 'S')
		return -1;
	kill(pid, SIGUSR1);
	return pid;
}

TEST(pending_signal_stacks_on_sigsys_while_the_selector_still_blocks)
{
	pid_t pid;
	int status;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_sigaction(SIGSYS, sud_handler, SA_NODEFER));
	ASSERT_EQ(0, sud_sigaction(SIGUSR1, note_selector, 0));
	pid = deliver_sigsys_and_sigusr1();
	ASSERT_LT(0, pid);
	status = sud_resume(pid, PTRACE_CONT, SIGSYS);
	ASSERT_EQ(SIGUSR1, WIFSTOPPED(status) ? WSTOPSIG(status) : 0);
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, SIGUSR1));
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(BLOCK, sud->flag);
}

TEST(pending_signal_waits_for_sigsys_with_a_full_mask)
{
	pid_t pid;
	int status;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_sigaction(SIGUSR1, note_selector, 0));
	sud->flag = -1;
	pid = deliver_sigsys_and_sigusr1();
	ASSERT_LT(0, pid);
	status = sud_resume(pid, PTRACE_CONT, SIGSYS);
	ASSERT_EQ(SIGUSR1, WIFSTOPPED(status) ? WSTOPSIG(status) : 0);
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, SIGUSR1));
	EXPECT_EQ(ALLOW, sud->flag);
}

TEST_HARNESS_MAIN
