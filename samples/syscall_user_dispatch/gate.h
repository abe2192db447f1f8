/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The gate: the region whose syscalls always run, whatever the selector says.
 *
 * Two stubs live in it. gate_call() lets a SIGSYS handler make a syscall of
 * its own without touching the selector. gate_restorer() ends the handler: on
 * x86-64 rt_sigreturn is an ordinary syscall of user code, so while the
 * selector says BLOCK it would be dispatched as well, into a handler that has
 * not ended yet, and kill the process. Inside the region it cannot be.
 */
#ifndef _GATE_H
#define _GATE_H

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/prctl.h>

/* Not in every C library's <signal.h> */
#ifndef SYS_USER_DISPATCH
#define SYS_USER_DISPATCH	2
#endif
#define GATE_SA_RESTORER	0x04000000

/* The byte that the kernel reads. Each armed thread needs one of its own. */
static char selector = SYSCALL_DISPATCH_FILTER_ALLOW;

static inline void set_selector(char value)
{
	/* The compiler must not move the store past a syscall, nor drop it. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	selector = value;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void allow(void)
{
	set_selector(SYSCALL_DISPATCH_FILTER_ALLOW);
}

static inline void block(void)
{
	set_selector(SYSCALL_DISPATCH_FILTER_BLOCK);
}

/* Like syscall(2) of the C library, but returns -errno as the kernel does */
long gate_call(long nr, ...);
void gate_restorer(void);
extern const char gate_start[], gate_end[];

/* How many handlers have returned; the restorer itself keeps the count */
extern unsigned long gate_returns;

asm(".pushsection .bss\n"
".balign 8\n"
"gate_returns:\n"
"	.skip	8\n"
".popsection\n"

".pushsection .text.gate, \"ax\", @progbits\n"
"gate_start:\n"
"gate_call:\n"
"	mov	%rdi, %rax\n"
"	mov	%rsi, %rdi\n"
"	mov	%rdx, %rsi\n"
"	mov	%rcx, %rdx\n"
"	mov	%r8, %r10\n"
"	mov	%r9, %r8\n"
"	mov	8(%rsp), %r9\n"
"	syscall\n"
"	ret\n"
"gate_restorer:\n"
"	incq	gate_returns(%rip)\n"
"	mov	$15, %eax\n"			/* __NR_rt_sigreturn */
"	syscall\n"
/*
 * The kernel compares the address after the syscall instruction, so the
 * region has to reach beyond the last one.
 */
"	ud2\n"
"gate_end:\n"
".popsection\n");

/* The C library would insist on a restorer of its own, so go around it. */
static inline void gate_handle_sigsys(void (*handler)(int, siginfo_t *, void *))
{
	struct {
		void (*handler)(int sig, siginfo_t *info, void *context);
		unsigned long flags;
		void (*restorer)(void);
		unsigned long mask;
	} act = {
		.handler	= handler,
		.flags		= SA_SIGINFO | GATE_SA_RESTORER,
		.restorer	= gate_restorer,
		/*
		 * Any other handler would start with the selector still at
		 * BLOCK and die of its first syscall: let none in.
		 */
		.mask		= ~0UL,
	};

	if (syscall(SYS_rt_sigaction, SIGSYS, &act, NULL, sizeof(act.mask)))
		err(1, "no handler for SIGSYS");
}

/* Arm this thread, or change how it is armed */
static inline void arm(unsigned long mode, const char *start, unsigned long len)
{
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, mode, start, len, &selector))
		err(1, "syscall user dispatch does not start%s",
		    errno == EPERM ? " (see sysctl kernel.syscall_user_dispatch)" :
		    errno == EINVAL ? " (is CONFIG_SYSCALL_USER_DISPATCH set?)" : "");
}

/* Let the selector decide on every syscall outside the gate */
static inline void arm_outside_gate(void)
{
	arm(PR_SYS_DISPATCH_EXCLUSIVE_ON, gate_start, gate_end - gate_start);
}

static inline void disarm(void)
{
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0L, 0L, 0L))
		err(1, "syscall user dispatch does not end");
}

#endif /* _GATE_H */
