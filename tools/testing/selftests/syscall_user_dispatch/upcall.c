// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: the upcall, by which a syscall is handed back without a
 * signal
 */
#include "sud_hold.h"
#include "sud_trace.h"
#include "sud_upcall.h"

#include <cpuid.h>
#include <linux/filter.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <sys/rseq.h>
#include <sys/time.h>

static long sud_upcall(const void *handler)
{
	return sud_prctl(UPCALL, (unsigned long)handler, 0, NULL);
}

/* Foreign code is filtered, and its dispatches go to @handler. */
static long sud_arm_upcall(const void *handler)
{
	return sud_arm_foreign(NULL) ?: sud_upcall(handler);
}

/* One where all code is filtered while the shared selector says so */
static long sud_arm_all_upcall(const void *handler)
{
	return sud_arm_all() ?: sud_upcall(handler);
}

/* 1 if a foreign syscall goes to upcall_emulate, 0 if it raises SIGSYS, or else -1 */
static int goes_up(void)
{
	int before = sud->dispatches;
	long ret = foreign_syscall(0xffff);

	if (ret == SUD_EMULATED && sud->dispatches == before)
		return 1;
	if (ret == 0xffff && sud->dispatches == before + 1)
		return 0;
	return -1;
}

/* The first address that is never one of user space, with four or five levels of tables */
#define BEYOND	((1UL << 56) - SUD_PAGE)

static const unsigned long beyond[] = { BEYOND, 1UL << 62, 1UL << 63, -1UL };

/* An address with a tag for LAM: instructions cannot be fetched there. */
#define TAGGED	((unsigned long)upcall_emulate | 1UL << 60)

/*
 * The prctl
 */

TEST(address_0_is_accepted_whether_armed_or_not)
{
	ASSERT_EQ(0, sud_handle(NULL));
	EXPECT_EQ(0, sud_upcall(NULL));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	EXPECT_EQ(0, sud_upcall(NULL));
	EXPECT_EQ(0, goes_up());
}

TEST(address_0_leads_back_to_sigsys)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_emulate));
	EXPECT_EQ(1, goes_up());
	ASSERT_EQ(0, sud_upcall(NULL));
	EXPECT_EQ(0, goes_up());
	ASSERT_EQ(0, sud_upcall(upcall_emulate));
	EXPECT_EQ(1, goes_up());
}

TEST(a_thread_that_is_not_armed_is_einval)
{
	EXPECT_EQ(-EINVAL, sud_upcall(upcall_emulate));
	EXPECT_EQ(-EINVAL, sud_upcall((void *)-1UL));
}

TEST(another_argument_is_einval_whatever_the_address)
{
	static const unsigned long addresses[] = { 0, 1, BEYOND, -1UL };
	int armed, i;

	for (armed = 0; armed < 2; armed++) {
		for (i = 0; i < ARRAY_SIZE(addresses); i++) {
			EXPECT_EQ(-EINVAL, sud_prctl(UPCALL, addresses[i], 1, NULL));
			EXPECT_EQ(-EINVAL, sud_prctl(UPCALL, addresses[i], 0, (void *)1));
		}
		ASSERT_EQ(0, sud_arm_foreign(NULL));
	}
}

TEST(a_caller_by_a_32_bit_entry_is_einval_whatever_the_address)
{
	if (!sud_has_int80())
		SKIP(return, "no int $0x80");
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_emulate));
	EXPECT_EQ(-EINVAL, native_int80(IA32_NR_prctl, 59L, (long)UPCALL, 0L, 0L, 0L));
	EXPECT_EQ(-EINVAL, native_int80(IA32_NR_prctl, 59L, (long)UPCALL, 0x1000L, 0L, 0L));
	EXPECT_EQ(1, goes_up());
}

TEST(an_address_beyond_user_space_is_efault_and_changes_nothing)
{
	int i;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_emulate));
	for (i = 0; i < ARRAY_SIZE(beyond); i++)
		EXPECT_EQ(-EFAULT, sud_upcall((void *)beyond[i]));
	EXPECT_EQ(-EFAULT, sud_upcall((void *)TAGGED));
	EXPECT_EQ(1, goes_up());
	/* Whether it is mapped is found out by the jump. */
	EXPECT_EQ(0, sud_upcall((void *)1));
	EXPECT_EQ(0, sud_upcall((void *)((1UL << 47) - SUD_PAGE - 1)));
}

TEST(arming_again_and_disarming_remove_it)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_emulate));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	EXPECT_EQ(0, goes_up());
	ASSERT_EQ(0, sud_upcall(upcall_emulate));
	ASSERT_EQ(0, sud_prctl(OFF, 0, 0, NULL));
	EXPECT_EQ(-EINVAL, sud_upcall(upcall_emulate));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	EXPECT_EQ(0, goes_up());
}

TEST(a_failure_to_arm_keeps_it)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_emulate));
	EXPECT_EQ(-EINVAL, sud_prctl(INCLUSIVE, 0, 0, NULL));
	EXPECT_EQ(1, goes_up());
}

#define SYSCTL	"/proc/sys/kernel/syscall_user_dispatch"

static void allow_arming(const void *arg)
{
	sud_write_file(SYSCTL, "1");
}

TEST(the_sysctl_denies_all_but_address_0)
{
	struct sud_undo undo;

	if (access(SYSCTL, W_OK))
		SKIP(return, "no sysctl that can be written");
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_emulate));
	ASSERT_TRUE(sud_undo_later(&undo, allow_arming, NULL));
	EXPECT_EQ(0, sud_write_file(SYSCTL, "0"));
	EXPECT_EQ(-EPERM, sud_upcall(upcall_other));
	EXPECT_EQ(-EPERM, sud_upcall((void *)-1UL));
	EXPECT_EQ(-EINVAL, sud_prctl(UPCALL, 1, 1, NULL));
	EXPECT_EQ(1, goes_up());
	EXPECT_EQ(0, sud_upcall(NULL));
	EXPECT_EQ(0, goes_up());
	EXPECT_EQ(0, sud_prctl(OFF, 0, 0, NULL));
	EXPECT_EQ(-EINVAL, sud_upcall(upcall_other));
	EXPECT_EQ(0, sud_upcall(NULL));
	sud_undo_now(&undo);
}

/*
 * Who inherits it
 */

/* The child arms itself, and gets what it would without the upcall of its parent. */
static int arm_and_go_up(const void *arg)
{
	if (sud_upcall(upcall_emulate) != -EINVAL || sud_arm_foreign(NULL))
		return 2;
	return goes_up();
}

static void *arm_and_go_up_in_thread(void *arg)
{
	return (void *)(intptr_t)arm_and_go_up(NULL);
}

TEST(children_and_threads_start_without)
{
	pthread_t thread;
	void *result;
	int status;
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_emulate));
	EXPECT_EQ(0, sud_run(arm_and_go_up, NULL));
	pid = vfork();
	if (!pid)
		_exit(arm_and_go_up(NULL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, pthread_create(&thread, NULL, arm_and_go_up_in_thread, NULL));
	ASSERT_EQ(0, pthread_join(thread, &result));
	EXPECT_EQ(0, (intptr_t)result);
	EXPECT_EQ(1, goes_up());
}

static void *go_elsewhere(void *arg)
{
	if (sud_arm_upcall(upcall_other))
		return NULL;
	return (void *)foreign_syscall(0xffff);
}

TEST(threads_may_have_different_handlers)
{
	pthread_t thread;
	void *result;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_emulate));
	ASSERT_EQ(0, pthread_create(&thread, NULL, go_elsewhere, NULL));
	ASSERT_EQ(0, pthread_join(thread, &result));
	EXPECT_EQ(0x7e, (intptr_t)result);
	EXPECT_EQ(SUD_EMULATED, foreign_syscall(0xffff));
	/* And one thread has one after the other. */
	ASSERT_EQ(0, sud_upcall(upcall_other));
	EXPECT_EQ(0x7e, foreign_syscall(0xffff));
}

/*
 * What the handler finds
 */

/* Patterns with other bits in all bytes */
static void fill(greg_t *regs, unsigned long seed)
{
	int i;

	memset(regs, 0, sizeof(gregset_t));
	for (i = REG_R8; i <= REG_RCX; i++)
		regs[i] = seed * (i + 1);
	regs[REG_EFL] = 0xcd7;
}

TEST(registers_are_as_at_the_instruction)
{
	gregset_t regs, before;
	int i;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_record));
	memset(&upcall_seen, 0, sizeof(upcall_seen));
	fill(before, 0xa5c396e17b4d28c5);
	memcpy(regs, before, sizeof(regs));
	foreign_regs(regs);
	EXPECT_EQ(1, upcall_seen.count);
	EXPECT_EQ(0, sud->dispatches);

	for (i = REG_R8; i <= REG_RAX; i++) {
		if (i == REG_R11)
			continue;
		EXPECT_EQ(before[i], upcall_seen.regs[i]) {
			TH_LOG("register %d of gregset_t at the handler", i);
		}
		EXPECT_EQ(before[i], regs[i]) {
			TH_LOG("register %d of gregset_t afterwards", i);
		}
	}
	EXPECT_EQ((unsigned long)foreign_regs_ip, upcall_seen.regs[REG_RCX]);
	/* IF is always set. The handler gave back what it found in r11. */
	EXPECT_EQ(before[REG_EFL] | 0x202, upcall_seen.regs[REG_R11]);
	EXPECT_EQ(before[REG_EFL] | 0x202, regs[REG_EFL] | 0x202);
	EXPECT_EQ((before[REG_EFL] | 0x202) & ~DF, upcall_seen.flags);
}

TEST(the_number_is_whole)
{
	static const unsigned long numbers[] = {
		0, 1, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 1UL << 32, X32_BIT,
		X32_BIT | 512, 0x123456789abcdef0, -1UL, -4UL, -512UL, -513UL, -514UL, -516UL,
	};
	int i;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_record));
	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		/* The handler leaves it alone, too. */
		EXPECT_EQ(numbers[i], foreign_syscall(numbers[i]));
		EXPECT_EQ(numbers[i], upcall_seen.regs[REG_RAX]);
		EXPECT_EQ((unsigned long)foreign_syscall_ip, upcall_seen.regs[REG_RCX]);
	}
	EXPECT_EQ(0, sud->dispatches);
}

TEST(the_stack_pointer_may_be_anything)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_record));
	upcall_seen.sp = -1;
	EXPECT_EQ(0xffff, stackless_syscall(0xffff));
	EXPECT_EQ(0, upcall_seen.sp);
}

TEST(some_flags_are_kept_and_some_are_cleared)
{
	const unsigned long kept = AC | NT | ID;
	unsigned long after = 0;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_all_upcall(upcall_record));
	sud->selector = BLOCK;
	odd_syscall(0xffff, kept | DF | 0x2d7, &after);
	sud->selector = ALLOW;
	EXPECT_EQ((unsigned long)odd_syscall_ip, upcall_seen.regs[REG_RCX]);
	EXPECT_EQ(kept | DF | 0x2d7, upcall_seen.regs[REG_R11] & ~RF);
	EXPECT_EQ(0, upcall_seen.regs[REG_R11] & RF);
	EXPECT_EQ(kept | 0x2d7, upcall_seen.flags);
	EXPECT_EQ(kept | DF | 0x2d7, after);
}

/* The addresses of traps of a program that steps itself */
static unsigned long traps[64];
static int nr_traps;

static void note_trap(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	if (nr_traps < ARRAY_SIZE(traps))
		traps[nr_traps++] = uc->uc_mcontext.gregs[REG_RIP];
}

TEST(a_program_that_steps_itself_does_not_step_the_handler)
{
	unsigned long after = 0;
	bool resumed = false;
	int i;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_sigaction(SIGTRAP, note_trap, 0));
	/* All else is exempt, the restorer of the handler too. */
	ASSERT_EQ(0, sud_prctl(INCLUSIVE, (unsigned long)odd_syscall_ip, 1, NULL));
	ASSERT_EQ(0, sud_upcall(upcall_record));
	odd_syscall(0xffff, TF | 0x202, &after);
	EXPECT_EQ(TF, upcall_seen.regs[REG_R11] & TF);
	EXPECT_EQ(0, upcall_seen.flags & TF);
	EXPECT_EQ(TF, after & TF);
	for (i = 0; i < nr_traps; i++) {
		EXPECT_FALSE(traps[i] >= (unsigned long)upcall_record &&
			     traps[i] <= (unsigned long)upcall_record_flags);
		resumed |= traps[i] == (unsigned long)odd_syscall_ip;
	}
	/* popfq of the handler sets it: what comes after the next instruction traps. */
	EXPECT_TRUE(resumed);
}

/*
 * A foreign syscall between two XSAVEs, with values in all that programs use:
 * x87, vectors, PKRU and whatever else this processor has
 */
static void xsave_around(char *before, char *after)
{
	/* Below the red zone: the compiler does not know of the call. */
	asm volatile("sub	$128, %%rsp\n"
		     "mov	$-1, %%eax\n"
		     "mov	$-1, %%edx\n"
		     "xsave64	(%[before])\n"
		     "mov	$0xffff, %%edi\n"
		     "call	foreign_syscall\n"
		     "mov	$-1, %%eax\n"
		     "mov	$-1, %%edx\n"
		     "xsave64	(%[after])\n"
		     "add	$128, %%rsp\n"
		     : : [before] "r" (before), [after] "r" (after)
		     : "rax", "rcx", "rdx", "rdi", "rsi", "r8", "r9", "r10", "r11", "memory");
}

TEST(extended_state_is_left_alone)
{
	unsigned int a, b, c, d;
	char *before, *after;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		SKIP(return, "no XSAVE");
	__cpuid_count(0xd, 0, a, b, c, d);
	ASSERT_LT(0, b);
	before = aligned_alloc(64, (b + 63) / 64 * 64);
	after = aligned_alloc(64, (b + 63) / 64 * 64);
	memset(before, 0, b);
	memset(after, 0, b);

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_counted));
	asm volatile("fninit; fldpi; fld1; fldln2");
	asm volatile("pcmpeqd %%xmm1, %%xmm1; movdqa %%xmm1, %%xmm7; pslld $3, %%xmm7;"
		     "movdqa %%xmm7, %%xmm15" : : : "xmm1", "xmm7", "xmm15");
	upcall_count = 0;
	xsave_around(before, after);
	asm volatile("fninit");
	EXPECT_EQ(1, upcall_count);
	EXPECT_EQ(0, memcmp(before, after, b));
	free(before);
	free(after);
}

TEST(the_red_zone_is_left_alone)
{
	unsigned long sum = 0;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_all_upcall(upcall_counted));
	upcall_count = 0;
	asm volatile("movb	%[block], (%[selector])\n"
		     "mov	$16, %%r9d\n"
		     "1: mov	%%r9, -128-8(%%rsp,%%r9,8)\n"
		     "dec	%%r9d\n"
		     "jnz	1b\n"
		     "mov	$0xffff, %%eax\n"
		     "syscall\n"
		     "mov	$16, %%r9d\n"
		     "2: add	-128-8(%%rsp,%%r9,8), %[sum]\n"
		     "dec	%%r9d\n"
		     "jnz	2b\n"
		     "movb	%[allow], (%[selector])\n"
		     : [sum] "+r" (sum)
		     : [selector] "r" (&sud->selector), [block] "i" (BLOCK), [allow] "i" (ALLOW)
		     : "rax", "rcx", "r9", "r11", "memory");
	EXPECT_EQ(1, upcall_count);
	EXPECT_EQ(16 * 17 / 2, sum);
}

static void resume_after_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	sud->others++;
	memcpy(&sud->info, info, sizeof(*info));
	memcpy(sud->regs, uc->uc_mcontext.gregs, sizeof(sud->regs));
	uc->uc_mcontext.gregs[REG_RIP] = uc->uc_mcontext.gregs[REG_RCX];
	uc->uc_mcontext.gregs[REG_RAX] = SUD_EMULATED;
}

TEST(an_unmapped_handler_is_a_segmentation_fault_there)
{
	char *page = sud_pages(1, PROT_NONE);

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_sigaction(SIGSEGV, resume_after_fault, 0));
	ASSERT_EQ(0, sud_arm_upcall(page));
	EXPECT_EQ(SUD_EMULATED, foreign_syscall(0xffff));
	EXPECT_EQ(1, sud->others);
	EXPECT_TRUE(sud->info.si_addr == page);
	EXPECT_EQ((greg_t)page, sud->regs[REG_RIP]);
	EXPECT_EQ((greg_t)foreign_syscall_ip, sud->regs[REG_RCX]);
	EXPECT_EQ(0xffff, sud->regs[REG_RAX]);
}

/*
 * Which syscalls stay a signal
 */

TEST(int80_raises_sigsys)
{
	if (!sud_has_int80())
		SKIP(return, "no int $0x80");
	ASSERT_EQ(0, sud_handle(sud_emulate));
	ASSERT_EQ(0, sud_arm_upcall(upcall_other));
	EXPECT_EQ(SUD_EMULATED, foreign_int80(0xffff));
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(AUDIT_ARCH_I386, sud->info.si_arch);
	EXPECT_EQ(0x7e, foreign_syscall(0xffff));
	EXPECT_EQ(1, sud->dispatches);
}

TEST(selector_region_and_kills_are_as_before)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));
	ASSERT_EQ(0, sud_upcall(upcall_emulate));
	sud->selector = ALLOW;
	EXPECT_EQ(getppid(), foreign_syscall(__NR_getppid));
	sud->selector = BLOCK;
	EXPECT_EQ(SUD_EMULATED, foreign_syscall(__NR_getppid));
	EXPECT_EQ(getppid(), native_syscall(__NR_getppid));
}

static int call_with_selector(const void *selector)
{
	if (sud_arm_foreign(selector) || sud_upcall(upcall_emulate))
		return 1;
	return foreign_syscall(__NR_getppid) != SUD_EMULATED;
}

TEST(a_bad_or_unreadable_selector_kills)
{
	static const char bad = 2;

	ASSERT_EQ(0, sud_handle(NULL));
	EXPECT_EQ(SIGSYS, sud_killed_by(sud_run(call_with_selector, &bad)));
	EXPECT_EQ(SIGSEGV, sud_killed_by(sud_run(call_with_selector, (void *)1)));
	EXPECT_EQ(0, sud_run(call_with_selector, NULL));
}

/*
 * Signals
 */

TEST(it_does_not_matter_what_becomes_of_sigsys)
{
	sigset_t set;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_emulate));
	signal(SIGSYS, SIG_DFL);
	EXPECT_EQ(SUD_EMULATED, foreign_syscall(0xffff));
	signal(SIGSYS, SIG_IGN);
	EXPECT_EQ(SUD_EMULATED, foreign_syscall(0xffff));
	sigfillset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	EXPECT_EQ(SUD_EMULATED, foreign_syscall(0xffff));
	/* And one that is pending stays so. */
	kill(getpid(), SIGSYS);
	EXPECT_EQ(SUD_EMULATED, foreign_syscall(0xffff));
}

static void send_sigusr1(void)
{
	syscall(__NR_tgkill, getpid(), hold.tid, SIGUSR1);
}

static void note_frame(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	sud->others++;
	memcpy(sud->regs, uc->uc_mcontext.gregs, sizeof(sud->regs));
}

TEST(a_signal_that_is_pending_finds_the_handler)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_sigaction(SIGUSR1, note_frame, 0));
	if (!sud_hold(send_sigusr1))
		SKIP(return, SUD_CANNOT_HOLD);
	ASSERT_EQ(0, sud_arm_foreign(hold.selector));
	ASSERT_EQ(0, sud_upcall(upcall_emulate));
	EXPECT_EQ(SUD_EMULATED, foreign_syscall(-512UL));
	EXPECT_EQ(1, sud->others);
	EXPECT_EQ((greg_t)upcall_emulate, sud->regs[REG_RIP]);
	EXPECT_EQ((greg_t)foreign_syscall_ip, sud->regs[REG_RCX]);
	EXPECT_EQ(-512, sud->regs[REG_RAX]);
}

static int alarms, alarms_right;

static void call_foreign_in_signal(int sig)
{
	alarms++;
	alarms_right += foreign_syscall(0xffff) == SUD_EMULATED;
}

static void *flood(void *arg)
{
	while (!__atomic_load_n(&sud->flag, __ATOMIC_ACQUIRE))
		syscall(__NR_tgkill, getpid(), sud->tid, SIGSYS);
	return NULL;
}

/* Under a timer whose handler makes foreign calls, and a flood of SIGSYS */
TEST(none_is_lost_and_none_is_made_up)
{
	const struct itimerval often = { { 0, 1000 }, { 0, 1000 } }, never = { };
	const unsigned long calls = 1000000;
	unsigned long right = 0, i;
	pthread_t thread;

	ASSERT_EQ(0, sud_handle(NULL));
	sud->tid = gettid();
	signal(SIGALRM, call_foreign_in_signal);
	/* The alarms are for the thread that is armed. */
	ASSERT_EQ(0, sud_thread_without_signals(&thread, flood, NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_emulate));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &often, NULL));
	for (i = 0; i < calls; i++)
		right += foreign_syscall(0xffff) == SUD_EMULATED;
	setitimer(ITIMER_REAL, &never, NULL);
	sud_set_flag(1);
	pthread_join(thread, NULL);
	EXPECT_EQ(calls, right);
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_LT(0, sud->others);
	EXPECT_LT(0, alarms);
	EXPECT_EQ(alarms, alarms_right);
}

TEST(a_selector_that_faults_is_awaited)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_sigaction(SIGUSR1, note_frame, 0));
	if (!sud_hold(send_sigusr1))
		SKIP(return, SUD_CANNOT_HOLD);
	hold.value = ALLOW;
	ASSERT_EQ(0, sud_arm_foreign(hold.selector));
	ASSERT_EQ(0, sud_upcall(upcall_emulate));
	EXPECT_EQ(getppid(), foreign_syscall(__NR_getppid));
	hold.value = BLOCK;
	ASSERT_TRUE(sud_hold_again());
	EXPECT_EQ(SUD_EMULATED, foreign_syscall(__NR_getppid));
}

/*
 * Tracers
 */

FIXTURE(tracee) {
	pid_t pid;
	struct sud_config_1 config;
};

FIXTURE_SETUP(tracee)
{
	ASSERT_EQ(0, sud_handle(NULL));
	self->config.base = sud_foreign_config(NULL);
	self->config.upcall = (unsigned long)upcall_step;
	self->pid = sud_tracee(sud_dispatch_and_call);
	ASSERT_LT(0, self->pid);
	ASSERT_EQ(0, sud_set_config_1(self->pid, &self->config));
}

FIXTURE_TEARDOWN(tracee)
{
	sud_kill_tracee(self->pid);
}

TEST_F(tracee, is_reported_and_put_back)
{
	struct sud_config_1 config;

	ASSERT_EQ(0, sud_get_config_1(self->pid, &config));
	EXPECT_EQ(0, memcmp(&config, &self->config, sizeof(config)));
	EXPECT_EQ(0, sud_set_config_1(self->pid, &config));
	config.upcall = 0;
	ASSERT_EQ(0, sud_set_config_1(self->pid, &config));
	memset(&config, 0xff, sizeof(config));
	ASSERT_EQ(0, sud_get_config_1(self->pid, &config));
	EXPECT_EQ(0, config.upcall);
}

TEST_F(tracee, is_not_hidden_from_an_old_tracer)
{
	const struct sud_config off = { .mode = OFF };
	struct sud_config old;

	EXPECT_EQ(-E2BIG, sud_get_config(self->pid, &old));
	EXPECT_EQ(-E2BIG, sud_get_config(self->pid, NULL));
	ASSERT_EQ(0, sud_set_config(self->pid, &self->config.base));
	EXPECT_EQ(0, sud_get_config(self->pid, &old));
	EXPECT_EQ(0, memcmp(&old, &self->config.base, sizeof(old)));
	EXPECT_EQ(-EFAULT, sud_get_config(self->pid, NULL));
	/* A task that is off has none, whatever it had. */
	ASSERT_EQ(0, sud_set_config_1(self->pid, &self->config));
	ASSERT_EQ(0, sud_set_config(self->pid, &off));
	EXPECT_EQ(0, sud_get_config(self->pid, &old));
}

TEST_F(tracee, is_validated_when_set)
{
	struct sud_config_1 config = self->config;
	int i;

	for (i = 0; i < ARRAY_SIZE(beyond); i++) {
		config.upcall = beyond[i];
		EXPECT_EQ(-EFAULT, sud_set_config_1(self->pid, &config));
	}
	config.upcall = TAGGED;
	EXPECT_EQ(-EFAULT, sud_set_config_1(self->pid, &config));
	config = self->config;
	config.base.mode = UPCALL;
	EXPECT_EQ(-EINVAL, sud_set_config_1(self->pid, &config));
	EXPECT_EQ(-EINVAL, sud_set_config(self->pid, &config.base));
	config = (struct sud_config_1) { .upcall = 1 };
	EXPECT_EQ(-EINVAL, sud_set_config_1(self->pid, &config));
	ASSERT_EQ(0, sud_get_config_1(self->pid, &config));
	EXPECT_EQ(0, memcmp(&config, &self->config, sizeof(config)));
}

TEST_F(tracee, makes_no_stop_for_an_upcall)
{
	char log[16];

	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_SYSCALL, 0, log, sizeof(log)));
	EXPECT_STREQ("()(", log);
}

static unsigned long tracee_reg(pid_t pid, unsigned long offset)
{
	unsigned long value = -1;

	sud_ptrace(PTRACE_PEEKUSER, pid, offset, &value);
	return value;
}

TEST_F(tracee, makes_no_stop_for_an_upcall_under_sysemu)
{
	EXPECT_EQ('(', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SYSEMU, 0)));
	EXPECT_EQ(__NR_getppid, tracee_reg(self->pid, USER_ORIG_AX));
	EXPECT_TRUE(tracee_reg(self->pid, USER_IP) == (unsigned long)native_syscall_ip);
}

#define USER_CX	offsetof(struct user, regs.rcx)
#define USER_R11	offsetof(struct user, regs.r11)
#define USER_FLAGS	offsetof(struct user, regs.eflags)

/* Step to the foreign syscall, which is the next instruction then. */
static bool step_to_foreign(pid_t pid)
{
	int steps;

	for (steps = 0; steps < 10000; steps++) {
		if (tracee_reg(pid, USER_IP) == (unsigned long)foreign_syscall_ip - 2)
			return true;
		if (sud_stop(pid, sud_resume(pid, PTRACE_SINGLESTEP, 0)) != 'T')
			return false;
	}
	return false;
}

static void expect_step(struct __test_metadata *_metadata, pid_t pid, long request)
{
	ASSERT_TRUE(step_to_foreign(pid));
	EXPECT_EQ('T', sud_stop(pid, sud_resume(pid, request, 0)));
	EXPECT_EQ((unsigned long)upcall_step, tracee_reg(pid, USER_IP));
	EXPECT_EQ((unsigned long)foreign_syscall_ip, tracee_reg(pid, USER_CX));
	EXPECT_EQ(-1UL, tracee_reg(pid, USER_ORIG_AX));
	EXPECT_EQ(0, tracee_reg(pid, USER_R11) & TF);
	EXPECT_EQ(PTRACE_SYSCALL_INFO_NONE, sud_syscall_op(pid));

	EXPECT_EQ('T', sud_stop(pid, sud_resume(pid, PTRACE_SINGLESTEP, 0)));
	EXPECT_EQ((unsigned long)upcall_step_2, tracee_reg(pid, USER_IP));
	EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, 0));
}

TEST_F(tracee, that_is_stepped_stops_at_the_first_instruction)
{
	expect_step(_metadata, self->pid, PTRACE_SINGLESTEP);
}

TEST_F(tracee, that_is_stepped_by_blocks_stops_at_the_first_instruction)
{
	expect_step(_metadata, self->pid, PTRACE_SINGLEBLOCK);
}

TEST_F(tracee, that_is_stepped_under_sysemu_stops_at_the_first_instruction)
{
	expect_step(_metadata, self->pid, PTRACE_SYSEMU_SINGLESTEP);
}

/* Who writes TF into the flags wants the program to have it. */
TEST_F(tracee, that_is_stepped_keeps_a_trap_flag_of_its_own)
{
	unsigned long flags;

	ASSERT_TRUE(step_to_foreign(self->pid));
	flags = tracee_reg(self->pid, USER_FLAGS);
	EXPECT_EQ(0, flags & TF);
	ASSERT_EQ(0, sud_ptrace(PTRACE_POKEUSER, self->pid, USER_FLAGS, (void *)(flags | TF)));
	EXPECT_EQ('T', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SINGLESTEP, 0)));
	EXPECT_EQ((unsigned long)upcall_step, tracee_reg(self->pid, USER_IP));
	EXPECT_EQ(TF, tracee_reg(self->pid, USER_R11) & TF);
	EXPECT_EQ(0, tracee_reg(self->pid, USER_FLAGS) & TF);
}

TEST_F(tracee, that_is_stepped_goes_on_as_it_is_asked_to)
{
	char log[16];

	ASSERT_TRUE(step_to_foreign(self->pid));
	EXPECT_EQ('T', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SINGLESTEP, 0)));
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_SYSCALL, 0, log, sizeof(log)));
	EXPECT_STREQ("()(", log);
}

TEST_F(tracee, that_is_suspended_makes_its_syscalls_natively)
{
	struct sud_config_1 config;
	char log[16];

	ASSERT_EQ(0, sud_set_options(self->pid, SUSPEND));
	ASSERT_EQ(0, sud_get_config_1(self->pid, &config));
	EXPECT_EQ(0, memcmp(&config, &self->config, sizeof(config)));
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_SYSCALL, 0, log, sizeof(log)));
	EXPECT_STREQ("()()(", log);
}

TEST_F(tracee, that_is_suspended_no_more_goes_up)
{
	ASSERT_EQ(0, sud_set_options(self->pid, SUSPEND));
	ASSERT_TRUE(step_to_foreign(self->pid));
	ASSERT_EQ(0, sud_set_options(self->pid, 0));
	EXPECT_EQ('T', sud_stop(self->pid, sud_resume(self->pid, PTRACE_SINGLESTEP, 0)));
	EXPECT_EQ((unsigned long)upcall_step, tracee_reg(self->pid, USER_IP));
}

static void block_sigtrap_and_call(void)
{
	sigset_t set;

	sigfillset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	foreign_syscall(0xffff);
}

static void ignore_sigtrap_and_call(void)
{
	signal(SIGTRAP, SIG_IGN);
	foreign_syscall(0xffff);
}

TEST(a_step_is_no_signal_that_could_be_blocked_or_ignored)
{
	static void (*const fns[])(void) = { block_sigtrap_and_call, ignore_sigtrap_and_call };
	struct sud_config_1 config = {
		.base = sud_foreign_config(NULL),
		.upcall = (unsigned long)upcall_step,
	};
	int i, status;
	pid_t pid;

	for (i = 0; i < ARRAY_SIZE(fns); i++) {
		ASSERT_EQ(0, sud_handle(NULL));
		pid = sud_tracee(fns[i]);
		ASSERT_LT(0, pid);
		ASSERT_EQ(0, sud_set_config_1(pid, &config));
		/* The other steps end by a signal, which the kernel forces. */
		do {
			status = sud_resume(pid, PTRACE_SINGLESTEP, 0);
		} while (sud_stop(pid, status) == 'T' &&
			 tracee_reg(pid, USER_IP) != (unsigned long)upcall_step);
		EXPECT_EQ('T', sud_stop(pid, status));
		EXPECT_EQ(0, sud_resume(pid, PTRACE_CONT, 0));
	}
}

/* The syscalls around it pair, also for a tracer that comes in the middle. */
TEST(a_tracer_that_comes_in_the_middle_sees_pairs)
{
	char log[16];
	int status;
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	if (!sud_can_hold())
		SKIP(return, SUD_CANNOT_HOLD);
	pid = sud_fork();
	if (!pid) {
		if (sud_hold(sud_hold_for_tracer)) {
			sud_arm_foreign(hold.selector);
			sud_upcall(upcall_emulate);
			sud_dispatch_and_call();
		}
		sud_exit(0);
	}
	ASSERT_LT(0, pid);
	ASSERT_TRUE(sud_await_flag_of(pid, SUD_HELD));
	ASSERT_EQ(0, sud_ptrace(PTRACE_SEIZE, pid, 0,
				(void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)));
	ASSERT_EQ(0, sud_ptrace(PTRACE_INTERRUPT, pid, 0, NULL));
	sud_set_flag(SUD_RELEASED);
	ASSERT_EQ(pid, waitpid(pid, &status, __WALL));
	EXPECT_EQ(PTRACE_EVENT_STOP, status >> 16);
	/* After the upcall, whose handler is next */
	EXPECT_EQ((unsigned long)upcall_emulate, tracee_reg(pid, USER_IP));
	EXPECT_EQ(0, sud_log_stops(pid, PTRACE_SYSCALL, 0, log, sizeof(log)));
	EXPECT_STREQ("()(", log);
}

/*
 * Beside what else works on syscalls
 */

TEST(seccomp_is_not_asked)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xffff, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { ARRAY_SIZE(filter), filter };

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_upcall(upcall_emulate));
	ASSERT_EQ(0, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ASSERT_EQ(0, prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	EXPECT_EQ(SUD_EMULATED, foreign_syscall(0xffff));
	EXPECT_EQ(0, sud->dispatches);
}

/*
 * A restartable sequence that the handler is in. That it is aborted by a signal
 * shows that the kernel has looked at the address of the handler.
 */
static int aborts, too_early;

static struct rseq *own_rseq(void)
{
	return (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static void note_abort(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	if (uc->uc_mcontext.gregs[REG_RIP] == (greg_t)upcall_abort)
		aborts++;
	/* It was preempted on its way to the syscall, and so outside. */
	else if (uc->uc_mcontext.gregs[REG_RIP] == (greg_t)upcall_sequence)
		too_early++;
}

TEST(a_restartable_sequence_may_be_in_the_handler)
{
	static struct rseq_cs cs __attribute__((aligned(32)));
	int i;

	if (!__rseq_size)
		SKIP(return, "no restartable sequences");
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_sigaction(SIGUSR1, note_abort, 0));
	if (!sud_hold(send_sigusr1))
		SKIP(return, SUD_CANNOT_HOLD);
	cs.start_ip = (unsigned long)upcall_sequence;
	cs.post_commit_offset = upcall_sequence_end - (const char *)upcall_sequence;
	cs.abort_ip = (unsigned long)upcall_abort;
	ASSERT_EQ(0, sud_arm_foreign(hold.selector));
	ASSERT_EQ(0, sud_upcall(upcall_sequence));
	for (i = 1; !aborts && i <= 100; i++) {
		ASSERT_TRUE(sud_hold_again());
		own_rseq()->rseq_cs = (unsigned long)&cs;
		EXPECT_EQ(SUD_EMULATED, foreign_syscall(0xffff));
		own_rseq()->rseq_cs = 0;
		ASSERT_EQ(i, aborts + too_early);
	}
	EXPECT_EQ(1, aborts);
}

#define EVENTS	"syscall_user_dispatch"

FIXTURE(events) {
};

FIXTURE_SETUP(events)
{
	if (!sud_trace_begin(EVENTS))
		SKIP(return, SUD_NO_TRACE);
	ASSERT_EQ(0, sud_handle(NULL));
}

FIXTURE_TEARDOWN(events)
{
	sud_trace_end();
}

TEST_F(events, tell_which_way_it_went)
{
	char text[256];

	ASSERT_EQ(0, sud_arm_foreign(NULL));
	ASSERT_TRUE(sud_trace_task(getpid(), EVENTS));
	ASSERT_EQ(0, sud_upcall(upcall_emulate));
	snprintf(text, sizeof(text),
		 "sud_configure: pid=%d mode=upcall offset=0x0 len=0x0 selector=0x0 upcall=%p",
		 getpid(), upcall_emulate);
	EXPECT_EQ(1, sud_trace_count(text, ""));
	foreign_syscall(0xffff, 1L, 2L, 3L, 4L, 5L, 6L);
	snprintf(text, sizeof(text),
		 "sud_dispatch: address=%p upcall=%p nr=65535 arch=x86_64 args=0x1,0x2,0x3,0x4,0x5,0x6",
		 foreign_syscall_ip, upcall_emulate);
	EXPECT_EQ(1, sud_trace_count(text, ""));
	ASSERT_EQ(0, sud_upcall(NULL));
	foreign_syscall(0xffff, 1L, 2L, 3L, 4L, 5L, 6L);
	snprintf(text, sizeof(text),
		 "sud_dispatch: address=%p upcall=0x0 nr=65535 arch=x86_64 args=0x1,0x2,0x3,0x4,0x5,0x6",
		 foreign_syscall_ip);
	EXPECT_EQ(1, sud_trace_count(text, ""));
	EXPECT_EQ(4, sud_trace_count("sud_", ""));
}

static void trace_syscalls(void)
{
	sud_trace_task(hold.tid, "raw_syscalls");
}

TEST_F(events, of_syscalls_come_in_pairs_when_enabled_in_the_middle)
{
	char log[16];

	if (!sud_hold(trace_syscalls))
		SKIP(return, SUD_CANNOT_HOLD);
	ASSERT_EQ(0, sud_arm_foreign(hold.selector));
	ASSERT_EQ(0, sud_upcall(upcall_emulate));
	EXPECT_EQ(SUD_EMULATED, foreign_syscall(0xffff));
	native_syscall(__NR_getppid);
	ASSERT_TRUE(sud_trace_write("events/raw_syscalls/enable", "0"));
	sud_trace_syscalls(log, sizeof(log));
	/* The second pair is cut off: it is the one that ends the tracing. */
	EXPECT_EQ(0, strncmp("()", log, 2)) {
		TH_LOG("%s", log);
	}
}

/*
 * A uprobe on the foreign syscall instruction executes it out of line, and waits
 * for the step to end. That is one instruction later, on return from the kernel.
 */

#define UPROBE_PMU	"/sys/bus/event_source/devices/uprobe/"

static int open_probe(unsigned long address)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.uprobe_path = (unsigned long)"/proc/self/exe",
	};
	struct sud_map text;
	FILE *type;

	type = fopen(UPROBE_PMU "type", "r");
	if (!type || !sud_find_map(address, &text))
		return -1;
	if (fscanf(type, "%u", &attr.type) != 1)
		attr.type = -1;
	fclose(type);
	attr.probe_offset = address - text.start + text.offset;
	return syscall(__NR_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

/* Where all code is filtered, the slot of the uprobe is, too. */
static long call_probed(void)
{
	long ret;

	sud->selector = BLOCK;
	ret = probed_syscall(0xffff);
	sud->selector = ALLOW;
	return ret;
}

TEST(a_probe_on_the_instruction_gets_sigsys)
{
	unsigned long hits = 0;
	int fd;

	fd = open_probe((unsigned long)probed_syscall_ip - SYSCALL_INSN_SIZE);
	if (fd < 0)
		SKIP(return, "no uprobes through perf");
	ASSERT_EQ(0, sud_handle(sud_emulate));
	ASSERT_EQ(0, sud_arm_all_upcall(upcall_other));
	EXPECT_EQ(SUD_EMULATED, call_probed());
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(0xffff, sud->info.si_syscall);
	ASSERT_EQ(sizeof(hits), read(fd, &hits, sizeof(hits)));
	EXPECT_EQ(1, hits);
	close(fd);
	/* Without the probe, the upcall is back. */
	EXPECT_EQ(0x7e, call_probed());
	EXPECT_EQ(1, sud->dispatches);
}

static void __attribute__((constructor)) upcall_init(void)
{
	if (sud_upcall(NULL) == -EINVAL) {
		ksft_print_header();
		ksft_exit_skip(SUD_NO_UPCALL "\n");
	}
}

TEST_HARNESS_MAIN
