// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: a dispatched syscall is no interrupted one, whatever
 * its number, and an interrupted one is restarted, whatever came in between
 */
#include <linux/elf.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/uio.h>
#include <time.h>

#include "sud_entry.h"
#include "sud_hold.h"

/*
 * Numbers that look like the results of interrupted syscalls: -ERESTARTSYS,
 * -ERESTARTNOINTR, -ERESTARTNOHAND and -ERESTART_RESTARTBLOCK.
 */
static const long restart_codes[] = { -512, -513, -514, -516 };

/* What a stub makes of a number before the kernel sees it */
static unsigned long as_number(sud_stub *stub, long number)
{
	return stub == foreign_int80 ? (unsigned int)number : (unsigned long)number;
}

FIXTURE_SETUP(entry)
{
	if (!sud_has_int80())
		SKIP(return, "the kernel lacks CONFIG_IA32_EMULATION");
	self->ip = sud_entry_ip(variant->stub, variant->getppid_nr);
	ASSERT_NE(0, self->ip);
}

FIXTURE_TEARDOWN(entry)
{
}

static void expect_numbers(struct __test_metadata *_metadata, sud_stub *stub,
			   unsigned long ip, int flags)
{
	unsigned long number;
	long ret;
	int i;

	for (i = 0; i < ARRAY_SIZE(restart_codes); i++) {
		number = as_number(stub, restart_codes[i]);
		ASSERT_EQ(0, sud_handle(NULL));
		ASSERT_EQ(0, sud_sigaction(SIGSYS, sud_handler, flags));
		ASSERT_EQ(0, sud_prctl(INCLUSIVE, ip, 1, &sud->selector));
		sud->selector = BLOCK;
		ret = stub(restart_codes[i]);
		ASSERT_EQ(0, sud_prctl(OFF, 0, 0, NULL));

		EXPECT_EQ(1, sud->dispatches);
		EXPECT_EQ((int)number, sud->info.si_syscall);
		EXPECT_EQ(ip, (unsigned long)sud->info.si_call_addr);
		EXPECT_EQ((long)ip, sud->regs[REG_IP]);
		EXPECT_EQ((long)number, sud->regs[REG_AX]);
		EXPECT_EQ((long)number, ret);
	}
}

TEST_F(entry, code_is_a_number)
{
	expect_numbers(_metadata, variant->stub, self->ip, 0);
}

TEST_F(entry, code_is_a_number_with_sa_restart)
{
	expect_numbers(_metadata, variant->stub, self->ip, SA_RESTART);
}

/*
 * A number that seccomp traps is rolled back in the same way.
 */

static bool trap_restart_codes(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, -516U, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {
		.len = ARRAY_SIZE(filter),
		.filter = filter,
	};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
		!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

/* What is trapped again would be trapped for ever. */
static void note_trap(siginfo_t *info, ucontext_t *uc)
{
	memcpy(sud->regs, uc->uc_mcontext.gregs, sizeof(sud->regs));
	if (sud->others > 1)
		uc->uc_mcontext.gregs[REG_IP] += SYSCALL_INSN_SIZE;
}

TEST_F(entry, code_that_seccomp_traps_is_a_number)
{
	unsigned long number;
	int i;

	ASSERT_TRUE(trap_restart_codes());
	for (i = 0; i < ARRAY_SIZE(restart_codes); i++) {
		number = as_number(variant->stub, restart_codes[i]);
		ASSERT_EQ(0, sud_handle(note_trap));
		ASSERT_EQ((long)number, variant->stub(restart_codes[i]));
		EXPECT_EQ(1, sud->others);
		EXPECT_EQ((long)self->ip, sud->regs[REG_IP]);
		EXPECT_EQ((long)number, sud->regs[REG_AX]);
	}
}

/*
 * A frame that cannot be written, for want of a stack: SIGSEGV comes instead, on
 * another stack, and finds the registers as SIGSYS would have.
 */

static void note_regs(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	/* A call that is made again would be made for ever. */
	if (sud->others++)
		sud_prctl(OFF, 0, 0, NULL);
	memcpy(sud->regs, uc->uc_mcontext.gregs, sizeof(sud->regs));
}

static void expect_numbers_in_sigsegv(struct __test_metadata *_metadata, sud_stub *stub,
				      const char *ip, bool narrow)
{
	static char stack[65536];
	const stack_t altstack = { .ss_sp = stack, .ss_size = sizeof(stack) };
	unsigned long number;
	int i;

	ASSERT_EQ(0, sigaltstack(&altstack, NULL));
	ASSERT_EQ(0, sud_sigaction(SIGSEGV, note_regs, SA_ONSTACK));
	for (i = 0; i < ARRAY_SIZE(restart_codes); i++) {
		number = narrow ? (unsigned int)restart_codes[i] : restart_codes[i];
		ASSERT_EQ(0, sud_handle(NULL));
		ASSERT_EQ(0, sud_prctl(INCLUSIVE, (unsigned long)ip, 1, NULL));
		ASSERT_EQ((long)number, stub(restart_codes[i]));
		EXPECT_EQ(1, sud->others);
		EXPECT_EQ(0, sud->dispatches);
		EXPECT_EQ((long)ip, sud->regs[REG_IP]);
		EXPECT_EQ((long)number, sud->regs[REG_AX]);
	}
}

TEST(code_is_a_number_where_the_frame_cannot_be_written_after_int80)
{
	if (!sud_has_int80())
		SKIP(return, "the kernel lacks CONFIG_IA32_EMULATION");
	expect_numbers_in_sigsegv(_metadata, stackless_int80, stackless_int80_ip, true);
}

#ifdef __x86_64__

TEST(code_is_a_number_where_the_frame_cannot_be_written)
{
	expect_numbers_in_sigsegv(_metadata, stackless_syscall, stackless_syscall_ip, false);
}

/*
 * Frames of x32, unlike the others, leave rax alone, and so a second signal finds
 * the number there. A handler has one if it was installed by an x32 syscall.
 */

#define X32_BIT			0x40000000UL
#define X32_NR_rt_sigaction	(X32_BIT | 512)

struct x32_sigaction {
	__u32 handler;
	__u32 flags;
	__u32 restorer;
	__u32 mask[2];
};

#define X32_UCONTEXT_REGS	24

static long x32_number;

static void note_x32_frame(int sig, const void *info, const char *uc)
{
	const long long *regs = (const void *)(uc + X32_UCONTEXT_REGS);

	sud->dispatches++;
	sud->flag = regs[REG_RAX] == x32_number && regs[REG_RIP] == (long)foreign_syscall_ip;
}

/* Handler and restorer have to lie below 4 GiB. Where that is, or NULL. */
static char *handle_by_x32_frame(void)
{
	static const unsigned char code[] = {
		0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0,	/* movabs $note_x32_frame, %rax */
		0xff, 0xe0,				/* jmp *%rax */
		0xb8, 0x01, 0x02, 0x00, 0x40,		/* mov $__NR_rt_sigreturn, %eax */
		0x0f, 0x05,				/* syscall */
	};
	void (*const handler)(int, const void *, const char *) = note_x32_frame;
	struct x32_sigaction action = { .flags = SA_SIGINFO | 0x04000000 /* SA_RESTORER */ };
	char *low;

	low = mmap(NULL, SUD_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (low == MAP_FAILED)
		return NULL;
	memcpy(low, code, sizeof(code));
	memcpy(low + 2, &handler, sizeof(handler));
	action.handler = (unsigned long)low;
	action.restorer = action.handler + 12;
	return native_syscall(X32_NR_rt_sigaction, (long)SIGSYS, &action, NULL, 8L) ? NULL : low;
}

static void call_number_foreign(void)
{
	sud_arm_foreign(NULL);
	sud->result = foreign_syscall(x32_number);
}

TEST(code_is_a_number_where_a_second_signal_meets_an_x32_frame)
{
	char *low;
	pid_t pid;
	int i, status;

	if (native_syscall(X32_BIT | __NR_getppid) != getppid())
		SKIP(return, "the kernel lacks CONFIG_X86_X32_ABI");
	for (i = 0; i < ARRAY_SIZE(restart_codes); i++) {
		x32_number = restart_codes[i];
		ASSERT_EQ(0, sud_handle(NULL));
		ASSERT_EQ(0, sud_sigaction(SIGUSR1, note_regs, 0));
		low = handle_by_x32_frame();
		ASSERT_TRUE(!!low);
		pid = sud_tracee(call_number_foreign);
		ASSERT_LT(0, pid);
		ASSERT_EQ('S', sud_stop(pid, sud_resume(pid, PTRACE_CONT, 0)));
		kill(pid, SIGUSR1);
		status = sud_resume(pid, PTRACE_CONT, SIGSYS);
		ASSERT_EQ(SIGUSR1, WIFSTOPPED(status) ? WSTOPSIG(status) : 0);
		ASSERT_EQ(0, sud_resume(pid, PTRACE_CONT, SIGUSR1));

		/* The handlers run in reverse. */
		EXPECT_EQ(1, sud->others);
		EXPECT_EQ((long)low, sud->regs[REG_RIP]);
		EXPECT_EQ(x32_number, sud->regs[REG_RAX]);
		EXPECT_EQ(1, sud->dispatches);
		EXPECT_EQ(1, sud->flag);
		EXPECT_EQ(x32_number, sud->result);
	}
}

#endif

/*
 * Tracers
 */

/* The tracee takes the number from the shared flag, and puts the result there. */
static void call_number(void)
{
	sud->flag = foreign_syscall((long)sud->flag);
}

TEST(suppressing_the_signal_returns_the_number)
{
	const struct sud_config config = sud_foreign_config(NULL);
	pid_t pid;
	int i;

	for (i = 0; i < ARRAY_SIZE(restart_codes); i++) {
		ASSERT_EQ(0, sud_handle(NULL));
		sud->flag = restart_codes[i];
		pid = sud_tracee(call_number);
		ASSERT_LT(0, pid);
		ASSERT_EQ(0, sud_set_config(pid, &config));
		ASSERT_EQ('S', sud_stop(pid, sud_resume(pid, PTRACE_CONT, 0)));
		EXPECT_EQ(restart_codes[i], ptrace(PTRACE_PEEKUSER, pid, USER_AX, NULL));
		EXPECT_EQ(restart_codes[i], ptrace(PTRACE_PEEKUSER, pid, USER_ORIG_AX, NULL));
		ASSERT_EQ(0, sud_resume(pid, PTRACE_CONT, 0));
		EXPECT_EQ(restart_codes[i], sud->flag);
	}
}

static long set_regs(pid_t pid, const struct user_regs_struct *regs)
{
	return sud_ptrace(PTRACE_SETREGS, pid, 0, regs);
}

/* Have a tracee that is stopped go on at @ip, the address after an instruction. */
static long go_to(pid_t pid, const struct user_regs_struct *before, const char *ip)
{
	struct user_regs_struct regs = *before;

	regs.R_IP = (unsigned long)ip - SYSCALL_INSN_SIZE;
	regs.R_AX = __NR_getppid;
	regs.R_ORIG_AX = -1;
	return set_regs(pid, &regs);
}

static long held_number;

static void call_held_number(void)
{
	sud->result = foreign_syscall(held_number);
}

TEST(code_is_a_number_after_a_tracer_had_another_syscall_made)
{
	const __u64 all = -1, none = 0;
	struct user_regs_struct regs;
	pid_t pid;
	int i;

	if (!sud_can_hold())
		SKIP(return, SUD_CANNOT_HOLD);
	for (i = 0; i < ARRAY_SIZE(restart_codes); i++) {
		held_number = restart_codes[i];
		ASSERT_EQ(0, sud_handle(NULL));
		pid = sud_held_tracee(call_held_number, false);
		ASSERT_LT(0, pid);
		ASSERT_EQ(0, sud_ptrace(PTRACE_GETREGS, pid, 0, &regs));

		/* The dispatch is pending, and waits until all is as it was. */
		ASSERT_EQ(0, sud_ptrace(PTRACE_SETSIGMASK, pid, sizeof(all), &all));
		ASSERT_EQ(0, go_to(pid, &regs, native_syscall_ip));
		ASSERT_EQ('(', sud_stop(pid, sud_resume(pid, PTRACE_SYSCALL, 0)));
		ASSERT_EQ(')', sud_stop(pid, sud_resume(pid, PTRACE_SYSCALL, 0)));
		EXPECT_EQ(getpid(), ptrace(PTRACE_PEEKUSER, pid, USER_AX, NULL));
		ASSERT_EQ(0, set_regs(pid, &regs));
		ASSERT_EQ(0, sud_ptrace(PTRACE_SETSIGMASK, pid, sizeof(none), &none));
		ASSERT_EQ('S', sud_stop(pid, sud_resume(pid, PTRACE_CONT, 0)));
		ASSERT_EQ(0, sud_resume(pid, PTRACE_CONT, SIGSYS));
		EXPECT_EQ(1, sud->dispatches);
		EXPECT_EQ((long)foreign_syscall_ip, sud->regs[REG_IP]);
		EXPECT_EQ(held_number, sud->regs[REG_AX]);
		EXPECT_EQ(held_number, sud->result);
	}
}

#ifdef __x86_64__

static void call_number_int80(void)
{
	foreign_int80((long)sud->flag);
}

/* A tracer that knows of 32 bits, like gdbserver, may extend them either way. */
TEST(code_is_a_number_however_a_tracer_extends_it)
{
	const struct sud_config config = sud_foreign_config(NULL);
	unsigned long ax, orig_ax;
	pid_t pid;
	int i;

	if (!sud_has_int80())
		SKIP(return, "the kernel lacks CONFIG_IA32_EMULATION");
	for (i = 0; i < 4 * ARRAY_SIZE(restart_codes); i++) {
		ASSERT_EQ(0, sud_handle(NULL));
		sud->flag = restart_codes[i / 4];
		ax = i & 1 ? (unsigned int)sud->flag : (long)sud->flag;
		orig_ax = i & 2 ? (unsigned int)sud->flag : (long)sud->flag;
		pid = sud_tracee(call_number_int80);
		ASSERT_LT(0, pid);
		ASSERT_EQ(0, sud_set_config(pid, &config));
		ASSERT_EQ('S', sud_stop(pid, sud_resume(pid, PTRACE_CONT, 0)));
		ASSERT_EQ(0, ptrace(PTRACE_POKEUSER, pid, USER_AX, ax));
		ASSERT_EQ(0, ptrace(PTRACE_POKEUSER, pid, USER_ORIG_AX, orig_ax));
		ASSERT_EQ(0, sud_resume(pid, PTRACE_CONT, SIGSYS));
		EXPECT_EQ(1, sud->dispatches);
		EXPECT_EQ((long)foreign_int80_ip, sud->regs[REG_IP]);
		EXPECT_EQ((long)ax, sud->regs[REG_AX]);
	}
}

#endif

/*
 * A restart that the tracer asks for at the stop of a dispatch, by a number and
 * the result of an interrupted syscall
 */

static void call_getpid(void)
{
	sud->flag = foreign_syscall(__NR_getpid);
}

static void ask_for_restart(struct __test_metadata *_metadata, long result, long number,
			    long expected)
{
	const struct sud_config config = sud_foreign_config(&sud->selector);
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	sud->selector = BLOCK;
	pid = sud_tracee(call_getpid);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_set_config(pid, &config));
	ASSERT_EQ('S', sud_stop(pid, sud_resume(pid, PTRACE_CONT, 0)));
	sud->selector = ALLOW;
	ASSERT_EQ(0, ptrace(PTRACE_POKEUSER, pid, USER_AX, result));
	ASSERT_EQ(0, ptrace(PTRACE_POKEUSER, pid, USER_ORIG_AX, number));
	ASSERT_EQ(0, sud_resume(pid, PTRACE_CONT, 0));
	EXPECT_EQ(expected, sud->flag);
	EXPECT_EQ(0, sud->dispatches);
}

TEST(tracer_has_another_syscall_made_by_a_restart)
{
	/* Without -ERESTART_RESTARTBLOCK, for which there is nothing to go on with */
	ask_for_restart(_metadata, restart_codes[0], __NR_getppid, getpid());
	ask_for_restart(_metadata, restart_codes[1], __NR_getppid, getpid());
	ask_for_restart(_metadata, restart_codes[2], __NR_getppid, getpid());
}

TEST(tracer_that_takes_the_number_away_has_nothing_restarted)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(restart_codes); i++)
		ask_for_restart(_metadata, restart_codes[i], -1, restart_codes[i]);
}

/*
 * A native syscall that a tracer interrupts, to have a foreign one made, as
 * debuggers do to call a function. Then it gives the registers back.
 */

static struct {
	int fd[2];
	int word;
} *blocking;

static long call_read(void)
{
	char byte;

	return native_syscall(__NR_read, (long)blocking->fd[0], &byte, 1L);
}

static bool finish_read(void)
{
	return write(blocking->fd[1], "x", 1) == 1;
}

static const long an_hour[2] = { 3600 };

static long call_futex(void)
{
	return native_syscall(__NR_futex, &blocking->word, (long)FUTEX_WAIT, 0L, NULL);
}

static long call_futex_for_an_hour(void)
{
	return native_syscall(__NR_futex, &blocking->word, (long)FUTEX_WAIT, 0L, an_hour);
}

static bool finish_futex(void)
{
	return native_syscall(__NR_futex, &blocking->word, (long)FUTEX_WAKE, 1L) == 1;
}

static long call_nanosleep(void)
{
	return native_syscall(__NR_nanosleep, an_hour, NULL);
}

FIXTURE(interrupted) {
	pid_t pid;
	struct user_regs_struct regs;
};

FIXTURE_VARIANT(interrupted) {
	long (*call)(void);
	long nr, nr_again;
	long result;
	bool (*finish)(void);	/* true if that was in time */
};

FIXTURE_VARIANT_ADD(interrupted, read) {
	.call = call_read,
	.nr = __NR_read,
	.nr_again = __NR_read,
	.result = 1,
	.finish = finish_read,
};

FIXTURE_VARIANT_ADD(interrupted, futex) {
	.call = call_futex,
	.nr = __NR_futex,
	.nr_again = __NR_futex,
	.finish = finish_futex,
};

FIXTURE_VARIANT_ADD(interrupted, futex_for_an_hour) {
	.call = call_futex_for_an_hour,
	.nr = __NR_futex,
	.nr_again = __NR_restart_syscall,
	.finish = finish_futex,
};

/* This one is not waited for. */
FIXTURE_VARIANT_ADD(interrupted, nanosleep) {
	.call = call_nanosleep,
	.nr = __NR_nanosleep,
	.nr_again = __NR_restart_syscall,
};

FIXTURE_SETUP(interrupted)
{
	struct iovec iov = { .iov_base = &self->regs, .iov_len = sizeof(self->regs) };
	struct user_regs_struct regs;
	long ret;
	int status;

	blocking = mmap(NULL, SUD_PAGE, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_EQ(0, pipe(blocking->fd));
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_sigaction(SIGUSR1, note_regs, SA_RESTART));
	self->pid = sud_fork();
	if (!self->pid) {
		sud_arm_foreign(NULL);
		ret = variant->call();
		_exit(ret == variant->result ? 0 : ret == -EINTR ? 2 : 1);
	}

	ASSERT_TRUE(sud_await_sleep(self->pid, variant->nr));
	ASSERT_EQ(0, sud_ptrace(PTRACE_SEIZE, self->pid, 0, (void *)PTRACE_O_EXITKILL));
	ASSERT_EQ(0, sud_ptrace(PTRACE_INTERRUPT, self->pid, 0, NULL));
	ASSERT_EQ(self->pid, waitpid(self->pid, &status, __WALL));
	ASSERT_EQ(PTRACE_EVENT_STOP, status >> 16);

	/* Both ways to save them come to the same. */
	ASSERT_EQ(0, sud_ptrace(PTRACE_GETREGS, self->pid, 0, &regs));
	ASSERT_EQ(0, sud_ptrace(PTRACE_GETREGSET, self->pid, NT_PRSTATUS, &iov));
	ASSERT_EQ(0, memcmp(&regs, &self->regs, sizeof(regs)));
	ASSERT_EQ(variant->nr, regs.R_ORIG_AX);

	ASSERT_EQ(0, go_to(self->pid, &regs, foreign_syscall_ip));
	ASSERT_EQ('S', sud_stop(self->pid, sud_resume(self->pid, PTRACE_CONT, 0)));
}

FIXTURE_TEARDOWN(interrupted)
{
	sud_kill_tracee(self->pid);
}

/*
 * See it block once more, and come to its end. On its way from the stop, it may
 * still look as if it slept in the syscall.
 */
static void expect_restart(struct __test_metadata *_metadata, pid_t pid, long nr,
			   bool (*finish)(void))
{
	int status;

	ASSERT_TRUE(sud_await_sleep(pid, nr));
	if (!finish)
		return;
	while (!finish() && !sud_has_ended(pid))
		sched_yield();
	ASSERT_EQ(pid, waitpid(pid, &status, __WALL));
	EXPECT_EQ(0, status);
}

TEST_F(interrupted, syscall_is_restarted_after_detach)
{
	ASSERT_EQ(0, set_regs(self->pid, &self->regs));
	ASSERT_EQ(0, sud_ptrace(PTRACE_DETACH, self->pid, 0, NULL));
	expect_restart(_metadata, self->pid, variant->nr_again, variant->finish);
}

TEST_F(interrupted, syscall_is_restarted_under_trace)
{
	ASSERT_EQ(0, set_regs(self->pid, &self->regs));
	ASSERT_EQ(0, sud_ptrace(PTRACE_CONT, self->pid, 0, NULL));
	expect_restart(_metadata, self->pid, variant->nr_again, variant->finish);
}

TEST_F(interrupted, syscall_is_restarted_after_registers_were_set_as_a_regset)
{
	struct iovec iov = { .iov_base = &self->regs, .iov_len = sizeof(self->regs) };

	ASSERT_EQ(0, sud_ptrace(PTRACE_SETREGSET, self->pid, NT_PRSTATUS, &iov));
	ASSERT_EQ(0, sud_ptrace(PTRACE_DETACH, self->pid, 0, NULL));
	expect_restart(_metadata, self->pid, variant->nr_again, variant->finish);
}

/* What would go on by restart_syscall does not go on behind a handler. */
TEST_F(interrupted, syscall_is_restarted_behind_a_handler_with_sa_restart)
{
	int status;

	ASSERT_EQ(0, set_regs(self->pid, &self->regs));
	ASSERT_EQ(0, sud_ptrace(PTRACE_CONT, self->pid, 0, (void *)SIGUSR1));
	if (variant->nr_again == variant->nr) {
		expect_restart(_metadata, self->pid, variant->nr, variant->finish);
	} else {
		ASSERT_EQ(self->pid, waitpid(self->pid, &status, __WALL));
		EXPECT_EQ(2 << 8, status);
	}
	EXPECT_EQ(1, sud->others);
	EXPECT_EQ(0, sud->dispatches);
}

TEST_HARNESS_MAIN
