// SPDX-License-Identifier: GPL-2.0
/*
 * Every syscall of an unmodified program, by the upcall of Syscall User
 * Dispatch
 *
 *	LD_PRELOAD=$PWD/interpose.so ls -l
 *		prints each syscall on standard error
 *	INTERPOSE=/tmp/counts LD_PRELOAD=$PWD/interpose.so make -j8
 *		counts them in a file, by number, for all processes together:
 *	od -Ad -v -w8 -td8 /tmp/counts | awk '$2 { print $2, $1 / 8 }'
 *	INTERPOSE_BY=sigsys (or seccomp) ...
 *		does either by a signal, to compare: see delivery.h
 *
 * The selector says BLOCK at all times, for all threads; so each syscall comes
 * to interpose_entry, wherever it is made. What is passed on to the kernel
 * goes through the gate, the one region that is exempt, and nothing else does.
 * (To say ALLOW while a call is passed on would be simpler and wrong: a signal
 * handler that interrupts the call would run unseen.)
 *
 * What needs care:
 *
 * rt_sigreturn finds the signal frame by the stack pointer. It is passed on
 * with the stack pointer that the program had, and does not come back.
 *
 * vfork and clone return twice, in the child perhaps on another stack, perhaps
 * on the same one in the same memory, where it overwrites what the parent has
 * below its stack pointer. So nothing may be left on the stack; what has to
 * survive is in a slot (see below).
 *
 * A new thread or process starts off, without an upcall. It arms itself before
 * it sees its first instruction of the program. Signals are blocked until
 * then, in the parent too, since a signal handler would run unseen. (One that
 * would kill the parent of a vfork waits until the child has gone.)
 *
 * exec switches it off as well. The environment still says LD_PRELOAD, and the
 * new program's loader starts it again. Not so where the new program is
 * static, 32-bit or setuid, or gets another environment.
 *
 * A signal handler may interrupt anything here, make syscalls of its own, and
 * leave by longjmp(). The state of a call is on the stack of its thread, below
 * the red zone; there is nothing to lock and nothing to give back.
 *
 * No vector register is touched (-mgeneral-regs-only), so none is saved, and
 * nothing of the C library is used: it may be the caller.
 *
 * What it does not see:
 *
 * - what the loader does before it calls start(): about 25 calls, and 8 more
 *   for each library that it maps;
 * - calls that the vDSO answers without a syscall, such as clock_gettime(),
 *   the vsyscall page, and what io_uring does for the program;
 * - a call that the kernel restarts after a signal: that is made in the gate.
 *
 * What it cannot run:
 *
 * - syscalls that are not made by SYSCALL (int $0x80, 32-bit code): SIGSYS
 *   ends such a program, rather than that they go uncounted;
 * - code that makes syscalls without a usable stack, as musl does at the end
 *   of a detached thread; upcall.S shows how to have one's own;
 * - thread cancellation in C libraries that compare the address that a signal
 *   interrupted with that of their own syscall instruction (musl, glibc since
 *   2.41): it takes effect later, or never.
 */
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/unistd.h>
#include <asm/errno.h>

#include "delivery.h"
#include "text.h"

#define FAILURE		125	/* exit status, as of env(1) and others */
#define COUNTERS	512	/* the last is for all numbers beyond */
#define SLOTS		256
#define STDERR		2

/*
 * The program's registers, as interpose_entry pushes them. The others are kept
 * by C functions and by the kernel. Then 128 bytes of red zone, then the
 * program's stack.
 */
struct call {
	unsigned long bx, nr, r9, r8, r10, dx, si, di;
	unsigned long ax;		/* the number again, then the result */
	unsigned long ip, flags;
};

/* What a call that returns twice needs when it returns */
struct slot {
	unsigned long bx, ip, flags, nr;
	unsigned long clone_flags, mask;
	int users;
};

/* What interpose_entry() is to do; anything else is the address of a slot */
enum { PASS, PASS_AND_TELL, ANSWER, SIGRETURN };

static enum delivery delivery;

/* The file, mapped by all processes. None: print */
static unsigned long *counters;

static struct slot slots[SLOTS];

#define PUSH(what)				\
"	push" what "\n"				\
"	.cfi_adjust_cfa_offset 8\n"

/* The gate, which is also the handler. Aligned so that it lies in one page. */
asm(".pushsection .text.gate, \"ax\", @progbits\n"
"	.balign	512\n"
"gate_start:\n"
/* Like syscall(2), but returns -errno as the kernel does */
"gate_call:\n"
"	.cfi_startproc\n"
"	mov	%rdi, %rax\n"
"	mov	%rsi, %rdi\n"
"	mov	%rdx, %rsi\n"
"	mov	%rcx, %rdx\n"
"	mov	%r8, %r10\n"
"	mov	%r9, %r8\n"
"	mov	8(%rsp), %r9\n"
"	syscall\n"
"	ret\n"
"	.cfi_endproc\n"

/*
 * Here the kernel goes: rax is the number, rcx the address to resume at, r11
 * the flags, everything else is the program's. The directives let unwinders
 * see the program's code as the caller, for exceptions, thread cancellation
 * and debuggers.
 */
"interpose_entry:\n"
"	.cfi_startproc\n"
"	.cfi_def_cfa rsp, 0\n"
"	.cfi_register rip, rcx\n"
"	lea	-128(%rsp), %rsp\n"
"	.cfi_adjust_cfa_offset 128\n"
PUSH("	%r11")
PUSH("	%rcx")
PUSH("	%rax")
PUSH("	%rdi")
PUSH("	%rsi")
PUSH("	%rdx")
PUSH("	%r10")
PUSH("	%r8")
PUSH("	%r9")
PUSH("	%rax")
PUSH("	%rbx")
"	mov	%rsp, %rbx\n"
"	.cfi_def_cfa rbx, 11 * 8 + 128\n"
"	.cfi_offset rip, 9 * 8 - (11 * 8 + 128)\n"
"	.cfi_offset rbx, -(11 * 8 + 128)\n"
"	and	$-16, %rsp\n"
/* The compiler may access what is not aligned: not with AC set */
"	test	$0x40000, %r11d\n"
"	jz	1f\n"
"	pushq	$2\n"
"	popfq\n"
"1:	mov	%rbx, %rdi\n"
"	call	before\n"
"	cmp	$2, %rax\n"			/* ANSWER */
"	je	.Lresume\n"
"	mov	0x10(%rbx), %r9\n"
"	mov	0x18(%rbx), %r8\n"
"	mov	0x20(%rbx), %r10\n"
"	mov	0x28(%rbx), %rdx\n"
"	mov	0x30(%rbx), %rsi\n"
"	mov	0x38(%rbx), %rdi\n"
"	ja	.Lno_return_here\n"
"	test	%eax, %eax\n"
"	mov	0x40(%rbx), %rax\n"
"	jnz	.Lpass_and_tell\n"
"	syscall\n"
"	mov	%rax, 0x40(%rbx)\n"

".Lresume:\n"
"	mov	%rbx, %rsp\n"
"	.cfi_remember_state\n"
"	.cfi_def_cfa rsp, 11 * 8 + 128\n"
"	pop	%rbx\n"
"	.cfi_same_value rbx\n"
"	pop	%r9\n"			/* nr, not needed any more */
"	pop	%r9\n"
"	pop	%r8\n"
"	pop	%r10\n"
"	pop	%rdx\n"
"	pop	%rsi\n"
"	pop	%rdi\n"
"	pop	%rax\n"
"	pop	%rcx\n"
"	.cfi_def_cfa rsp, 8 + 128\n"
"	.cfi_register rip, rcx\n"
/* As after a syscall, r11 has the flags. */
"	mov	(%rsp), %r11\n"
"	popfq\n"
"	lea	128(%rsp), %rsp\n"
"	.cfi_def_cfa rsp, 0\n"
"	jmp	*%rcx\n"
"	.cfi_restore_state\n"

".Lpass_and_tell:\n"
"	syscall\n"
"	mov	%rax, 0x40(%rbx)\n"
"	mov	%rbx, %rdi\n"
"	call	after\n"
"	jmp	.Lresume\n"

/* With the program's stack pointer */
".Lno_return_here:\n"
"	lea	11 * 8 + 128(%rbx), %rsp\n"
"	.cfi_undefined rip\n"
"	cmp	$3, %rax\n"			/* SIGRETURN */
"	mov	0x40(%rbx), %r11\n"
"	mov	%rax, %rbx\n"
"	mov	%r11, %rax\n"
"	je	.Lsigreturn\n"
"	syscall\n"
/*
 * Parent or child, on whatever stack. rbx is the slot. Build a struct call as
 * if it had been there all the time.
 */
"	lea	-128(%rsp), %rsp\n"
"	pushq	0x10(%rbx)\n"
"	pushq	0x08(%rbx)\n"
"	push	%rax\n"
"	push	%rdi\n"
"	push	%rsi\n"
"	push	%rdx\n"
"	push	%r10\n"
"	push	%r8\n"
"	push	%r9\n"
"	pushq	0x18(%rbx)\n"
"	pushq	0x00(%rbx)\n"
"	mov	%rbx, %rsi\n"
"	mov	%rsp, %rbx\n"
"	and	$-16, %rsp\n"
"	mov	%rbx, %rdi\n"
"	call	twice\n"
"	jmp	.Lresume\n"

".Lsigreturn:\n"
"	syscall\n"
"	ud2\n"
"	.cfi_endproc\n"

/* Where a handler of SIGSYS returns to */
"interpose_restorer:\n"
"	mov	$15, %eax\n"			/* __NR_rt_sigreturn */
"	syscall\n"
"	ud2\n"
"gate_end:\n"
".popsection\n");

static void print(const struct call *call, const long *result)
{
	const unsigned long arg[] = {
		call->di, call->si, call->dx, call->r10, call->r8, call->r9
	};
	char line[192], *p = line;
	int i;

	p = put_number(p, gate_call(__NR_gettid));
	p = put_string(p, ": ");
	p = put_number(p, call->nr);
	for (i = 0; i < 6; i++) {
		p = put_string(p, i ? ", " : "(");
		p = put_hex(p, arg[i]);
	}
	p = put_string(p, result ? ") = " : ")");
	/* Small negative numbers are errors; the others may be addresses */
	if (result && *result < 0 && *result >= -4095)
		p = put_number(p, *result);
	else if (result)
		p = put_hex(p, *result);
	*p++ = '\n';
	gate_call(__NR_write, (long)STDERR, line, p - line);
}

static void fail(const char *why, const char *what)
{
	char line[512], *p = line;

	p = put_string(p, "interpose: ");
	p = put_string(p, why);
	while (*what && p < line + sizeof(line) - 1)
		*p++ = *what++;
	*p++ = '\n';
	gate_call(__NR_write, (long)STDERR, line, p - line);
	gate_call(__NR_exit_group, (long)FAILURE);
}

static void arm(int first)
{
	long ret = deliver(delivery, first);

	if (ret)
		fail("the kernel does not let syscalls be interposed",
		     ret == -EPERM ? " (see sysctl kernel.syscall_user_dispatch)" : "");
}

static unsigned long set_mask(unsigned long mask)
{
	unsigned long old = 0;

	gate_call(__NR_rt_sigprocmask, (long)SIG_SETMASK, &mask, &old, sizeof(mask));
	return old;
}

/*
 * Which kind of clone3() it is stands in the program's memory. A bad address
 * has to become EFAULT, not SIGSEGV: ask the kernel whether it can be read,
 * by a call that fails for another reason if it can.
 */
static int clone3_flags(const struct call *call, unsigned long *flags)
{
	if (call->si < CLONE_ARGS_SIZE_VER0 || !call->di ||
	    gate_call(__NR_rt_sigprocmask, -1L, call->di, 0L, 8L) == -EFAULT)
		return 0;
	*flags = *(unsigned long *)call->di;
	return 1;
}

/*
 * Prepare for a call that returns twice. The slot is the one thing whose
 * address survives, in rbx, in both: it is filled from the program's rbx, and
 * given back by those who have read it, one or two.
 */
static unsigned long expect_two(struct call *call, unsigned long flags)
{
	unsigned long mask = set_mask(~0UL);
	struct slot *slot;
	int none;

	for (slot = slots; slot < slots + SLOTS; slot++) {
		none = 0;
		if (!__atomic_compare_exchange_n(&slot->users, &none, 2, 0,
						 __ATOMIC_ACQUIRE,
						 __ATOMIC_RELAXED))
			continue;
		slot->bx = call->bx;
		slot->ip = call->ip;
		slot->flags = call->flags;
		slot->clone_flags = flags;
		slot->mask = mask;
		slot->nr = call->nr;
		return (unsigned long)slot;
	}
	/* As if there were too many processes */
	set_mask(mask);
	call->ax = -EAGAIN;
	return ANSWER;
}

/* Called by interpose_entry(), after a call that was passed on, if we print */
static __attribute__((used)) void after(struct call *call)
{
	long result = call->ax;

	print(call, &result);
}

/* Called by interpose_entry(), before the call is passed on */
static __attribute__((used)) unsigned long before(struct call *call)
{
	/* The kernel ignores the upper half of the register, and x32 is native, too. */
	unsigned int nr = call->nr & ~__X32_SYSCALL_BIT;
	unsigned long flags;

	if (counters)
		__atomic_fetch_add(counters + (nr < COUNTERS ? nr : COUNTERS - 1),
				   1, __ATOMIC_RELAXED);

	switch (nr) {
	case __NR_rt_sigreturn:
	case 513:	/* the same of x32 */
		if (!counters)
			print(call, 0);
		return SIGRETURN;
	case __NR_fork:
		return expect_two(call, 0);
	case __NR_vfork:
		return expect_two(call, CLONE_VM | CLONE_VFORK);
	case __NR_clone:
		return expect_two(call, call->di);
	case __NR_clone3:
		if (clone3_flags(call, &flags))
			return expect_two(call, flags);
		break;
	case __NR_execve:
	case __NR_execveat:
	case __NR_exit:
	case __NR_exit_group:
		/* Perhaps there is no after */
		if (!counters)
			print(call, 0);
		return PASS;
	case __NR_prctl:
	case __NR_rt_sigaction:
		/* Who would be served first? Say that there is no such thing. */
		if (nr == __NR_prctl ? call->di != PR_SET_SYSCALL_USER_DISPATCH :
		    call->di != SIGSYS || delivery == BY_UPCALL)
			break;
		call->ax = -EINVAL;
		if (!counters)
			after(call);
		return ANSWER;
	}
	return counters ? PASS : PASS_AND_TELL;
}

/* Called by interpose_entry(), in the parent and in the child */
static __attribute__((used)) void twice(struct call *call, struct slot *slot)
{
	unsigned long flags = slot->clone_flags, mask = slot->mask;
	int i;

	/*
	 * Give the slot back. A child that has memory of its own has copies
	 * of the slots of threads that it does not have. The parent of a vfork
	 * knows that the child needs nothing any more, and that it may have
	 * died before it said so.
	 */
	if (!call->ax && !(flags & CLONE_VM))
		for (i = 0; i < SLOTS; i++)
			__atomic_store_n(&slots[i].users, 0, __ATOMIC_RELEASE);
	else if (!call->ax || (flags & (CLONE_VM | CLONE_VFORK)) == CLONE_VM)
		__atomic_sub_fetch(&slot->users, (long)call->ax < 0 ? 2 : 1,
				   __ATOMIC_RELEASE);
	else
		__atomic_store_n(&slot->users, 0, __ATOMIC_RELEASE);

	if (!call->ax)
		arm(0);
	else if (!counters)
		after(call);
	set_mask(mask);
}

/* Called by the loader, with the arguments of main(): so glibc's loader does */
static __attribute__((constructor)) void start(int argc, char **argv, char **envp)
{
	const char *path = variable(envp, "INTERPOSE=");
	const char *by = variable(envp, "INTERPOSE_BY=");
	long fd, map;

	(void)argc;
	(void)argv;
	if (!by || equal(by, "upcall"))
		delivery = BY_UPCALL;
	else if (equal(by, "sigsys"))
		delivery = BY_SIGSYS;
	else if (equal(by, "seccomp"))
		delivery = BY_SECCOMP;
	else
		fail("INTERPOSE_BY has to be upcall, sigsys or seccomp, not ", by);

	/* Address 0 always succeeds, if the kernel knows what it means. */
	if (delivery == BY_UPCALL &&
	    gate_call(__NR_prctl, (long)PR_SET_SYSCALL_USER_DISPATCH,
		      (long)PR_SYS_DISPATCH_UPCALL, 0L, 0L, 0L))
		fail("this kernel has no upcalls", "");

	if (path) {
		/* A mapping needs no file descriptor, which programs may close */
		fd = gate_call(__NR_open, path, (long)(O_RDWR | O_CREAT | O_CLOEXEC),
			       0666L);
		if (*path != '/' || fd < 0)
			fail("INTERPOSE has to be the full path of a file to write: ",
			     path);
		if (gate_call(__NR_ftruncate, fd, COUNTERS * sizeof(*counters)))
			fail("cannot enlarge ", path);
		map = gate_call(__NR_mmap, 0L, COUNTERS * sizeof(*counters),
				(long)(PROT_READ | PROT_WRITE), (long)MAP_SHARED,
				fd, 0L);
		if (map < 0 && map >= -4095)
			fail("cannot map ", path);
		gate_call(__NR_close, fd);
		counters = (unsigned long *)map;
	}
	arm(1);
}
