/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How the syscalls of a program come to the interposer, to compare what that
 * costs
 *
 * By the upcall, the kernel itself goes to interpose_entry. By SIGSYS, whether
 * Syscall User Dispatch or a filter of seccomp raises it, a handler sends the
 * program there: it makes the saved registers those of an upcall, and returns.
 * So what follows is the same, calls that return twice included, and nothing
 * but the return from the handler needs the gate as well.
 *
 * Signals can do less. SIGSYS is the interposer's then: a program that blocks
 * it dies of its next syscall. And a filter stays across exec, but not the
 * handler, so that under one a program cannot run another.
 */
#ifndef _DELIVERY_H
#define _DELIVERY_H

#include <stddef.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <linux/signal.h>
#include <linux/unistd.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>

#define HIDDEN		__attribute__((visibility("hidden")))
#define SA_RESTORER	0x04000000
#define TF_DF		0x500UL

enum delivery { BY_UPCALL, BY_SIGSYS, BY_SECCOMP };

HIDDEN long gate_call(long nr, ...);
HIDDEN void interpose_entry(void);
HIDDEN void interpose_restorer(void);
extern HIDDEN const char gate_start[], gate_end[];

/* Never changes, so all threads of all kinds can share it */
static const char selector = SYSCALL_DISPATCH_FILTER_BLOCK;

static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	struct sigcontext *regs = &((struct ucontext *)context)->uc_mcontext;

	(void)sig;
	regs->rax = info->si_syscall;
	regs->rcx = regs->rip;
	regs->r11 = regs->eflags;
	regs->eflags &= ~TF_DF;
	regs->rip = (unsigned long)interpose_entry;
}

static long handle_sigsys(void)
{
	const struct sigaction action = {
		.sa_handler	= (__sighandler_t)(void *)on_sigsys,
		.sa_flags	= SA_SIGINFO | SA_RESTORER,
		.sa_restorer	= interpose_restorer,
		/* None of the program's may run before this one has returned */
		.sa_mask	= ~0UL,
	};

	return gate_call(__NR_rt_sigaction, (long)SIGSYS, &action, 0L,
			 sizeof(action.sa_mask));
}

/* Trap whatever is not made in the gate, which lies in one page */
static long filter(void)
{
	const unsigned long start = (unsigned long)gate_start;
	const unsigned int ip = offsetof(struct seccomp_data, instruction_pointer);
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, start >> 32, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (unsigned int)start, 0, 2),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K,
			 (unsigned int)start + (gate_end - gate_start), 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	};
	const struct sock_fprog program = {
		.len	= sizeof(code) / sizeof(*code),
		.filter	= code,
	};
	long ret;

	/* What an unprivileged filter takes */
	ret = gate_call(__NR_prctl, (long)PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L);
	if (!ret)
		ret = gate_call(__NR_seccomp, (long)SECCOMP_SET_MODE_FILTER, 0L,
				&program);
	return ret;
}

static long dispatch(void)
{
	return gate_call(__NR_prctl, (long)PR_SET_SYSCALL_USER_DISPATCH,
			 (long)PR_SYS_DISPATCH_EXCLUSIVE_ON, gate_start,
			 gate_end - gate_start, &selector);
}

/* Arm this thread, the first one or a new one, which has inherited a filter */
static long deliver(enum delivery delivery, int first)
{
	long ret;

	if (delivery != BY_UPCALL) {
		ret = handle_sigsys();
		if (ret)
			return ret;
	}
	if (delivery == BY_SECCOMP)
		return first ? filter() : 0;

	ret = dispatch();
	/* In this order: arming removes the upcall. Nothing comes in between. */
	if (!ret && delivery == BY_UPCALL)
		ret = gate_call(__NR_prctl, (long)PR_SET_SYSCALL_USER_DISPATCH,
				(long)PR_SYS_DISPATCH_UPCALL, interpose_entry,
				0L, 0L);
	return ret;
}

#endif /* _DELIVERY_H */
