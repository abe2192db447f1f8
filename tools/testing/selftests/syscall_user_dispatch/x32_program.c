// SPDX-License-Identifier: GPL-2.0-only
/*
 * An x32 process that uses Syscall User Dispatch, run by entry_paths.c
 *
 * It has no libc, which for x32 is seldom there. It exits with 0, or with the
 * number of the line that found something wrong.
 */
#include <asm/siginfo.h>
#include <asm/unistd.h>
#include <linux/audit.h>
#include <linux/prctl.h>
#include <linux/signal.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>

#ifndef PR_SYS_DISPATCH_INCLUSIVE_ON
# define PR_SYS_DISPATCH_INCLUSIVE_ON	2
#endif

#ifndef SYS_USER_DISPATCH
# define SYS_USER_DISPATCH	2
#endif

#define EMULATED	0x5ad

/* What is made of machine code, below */
typedef long long stub(unsigned int nr, ...);
stub native, foreign, foreign_ip;
typedef void code(void);
code restorer;

asm(".macro	stub name:req\n"
	"\\name:\n"
	"	mov	%edi, %eax\n"
	"	mov	%rsi, %rdi\n"
	"	mov	%rdx, %rsi\n"
	"	mov	%rcx, %rdx\n"
	"	mov	%r8, %r10\n"
	"	mov	%r9, %r8\n"
	"	syscall\n"
	"\\name\\()_ip:\n"
	"	ret\n"
	".endm\n"
	"	stub native\n"
	"	stub foreign\n"
	"restorer:\n"
	"	mov	$0x40000201, %eax\n"
	"	syscall\n"
	".globl	_start\n"
	"_start:\n"
	"	and	$-16, %esp\n"
	"	call	x32_main\n");

/* That of the kernel, whose mask has 64 bits */
struct x32_sigaction {
	void (*handler)(int sig, siginfo_t *info, void *context);
	unsigned int flags;
	code *restorer;
	unsigned int mask[2];
};

static char selector;
static int dispatches;

static void expect(int right, int line)
{
	if (!right)
		native(__NR_exit_group, line);
}

#define EXPECT(right)	expect(right, __LINE__)

static void handler(int sig, siginfo_t *info, void *context)
{
	struct ucontext *uc = context;

	dispatches++;
	EXPECT(sig == SIGSYS);
	EXPECT(info->si_code == SYS_USER_DISPATCH);
	EXPECT(info->si_call_addr == (void *)foreign_ip);
	EXPECT(info->si_syscall == __NR_getppid);
	EXPECT(info->si_arch == AUDIT_ARCH_X86_64);
	EXPECT(uc->uc_mcontext.rip == (unsigned long)foreign_ip);
	EXPECT(uc->uc_mcontext.rax == __NR_getppid);
	uc->uc_mcontext.rax = EMULATED;
}

void x32_main(void)
{
	const struct x32_sigaction action = {
		.handler = handler,
		.flags = SA_SIGINFO | SA_RESTORER,
		.restorer = restorer,
	};

	EXPECT(__NR_getppid & __X32_SYSCALL_BIT);
	EXPECT(!native(__NR_rt_sigaction, SIGSYS, &action, 0, 8));
	EXPECT(!native(__NR_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_INCLUSIVE_ON,
		       foreign_ip, 1, &selector));
	EXPECT(foreign(__NR_getppid) == native(__NR_getppid));
	EXPECT(dispatches == 0);
	selector = 1;
	EXPECT(foreign(__NR_getppid) == EMULATED);
	EXPECT(foreign(__NR_getppid) == EMULATED);
	EXPECT(dispatches == 2);
	for (;;)
		native(__NR_exit_group, 0);
}
