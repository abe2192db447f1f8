/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Handlers of upcalls, and the syscalls that lead to them
 */
#ifndef __SUD_UPCALL_H
#define __SUD_UPCALL_H

#include "sud.h"

#ifndef PR_SYS_DISPATCH_UPCALL
# define PR_SYS_DISPATCH_UPCALL	3
#endif

#define UPCALL	PR_SYS_DISPATCH_UPCALL

#define SUD_NO_UPCALL	"the kernel has no upcalls"

#define X32_BIT	0x40000000UL

#define TF	0x100UL
#define DF	0x400UL
#define NT	0x4000UL
#define RF	0x10000UL
#define AC	0x40000UL
#define ID	0x200000UL

/* What upcall_record finds when it is called, which is all but changed by itself */
struct upcall_seen {
	unsigned long count;
	unsigned long sp;
	unsigned long flags;
	gregset_t regs;
};

struct upcall_seen upcall_seen;
unsigned long upcall_count;

typedef void upcall_handler(void);
upcall_handler upcall_emulate, upcall_other, upcall_counted, upcall_record, upcall_step;
extern const char upcall_step_2[];
/* One that is in a restartable sequence until its end, or goes on at upcall_abort */
upcall_handler upcall_sequence, upcall_abort;
extern const char upcall_sequence_end[];
/* Where upcall_record has given the flags back */
extern const char upcall_record_flags[];
extern const char odd_syscall_ip[];

/*
 * A syscall with @flags as they are there, and what is read of the flags
 * immediately after it. Its stack is not used in between.
 */
unsigned long odd_syscall(unsigned long nr, unsigned long flags, unsigned long *after);

/* One that a uprobe can step: it executes the next instruction as well. */
extern sud_stub probed_syscall;
extern const char probed_syscall_ip[];

asm(".pushsection .bss\n"
	"	.balign	16\n"
	"upcall_stack:\n"
	"	.skip	256\n"
	".popsection\n"
	".pushsection .text\n"
	"upcall_emulate:\n"
	"	mov	$0x5ad, %eax\n"
	"	jmp	*%rcx\n"
	"upcall_other:\n"
	"	mov	$0x07e, %eax\n"
	"	jmp	*%rcx\n"
	/* Counts, and gives the flags back */
	"upcall_counted:\n"
	"	mov	%rsp, upcall_seen+8(%rip)\n"
	"	incq	upcall_count(%rip)\n"
	"	lea	upcall_stack+256(%rip), %rsp\n"
	"	push	%r11\n"
	"	popfq\n"
	"	mov	upcall_seen+8(%rip), %rsp\n"
	"	mov	$0x5ad, %eax\n"
	"	jmp	*%rcx\n"
	/* The registers in the order of gregset_t */
	"upcall_record:\n"
	"	.set	offset, 24\n"
	"	.irp	reg, r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx\n"
	"	mov	%\\reg, upcall_seen+offset(%rip)\n"
	"	.set	offset, offset + 8\n"
	"	.endr\n"
	"	mov	%rsp, upcall_seen+8(%rip)\n"
	"	lea	upcall_stack+256(%rip), %rsp\n"
	"	pushfq\n"
	"	popq	upcall_seen+16(%rip)\n"
	"	incq	upcall_seen(%rip)\n"
	"	push	%r11\n"
	"	popfq\n"
	"upcall_record_flags:\n"
	"	mov	upcall_seen+8(%rip), %rsp\n"
	"	jmp	*%rcx\n"
	"upcall_step:\n"
	"	nop\n"
	"upcall_step_2:\n"
	"	mov	$0x5ad, %eax\n"
	"	jmp	*%rcx\n"
	"upcall_sequence:\n"
	"	mov	$0x5ad, %eax\n"
	"	nop\n"
	"upcall_sequence_end:\n"
	"	jmp	*%rcx\n"
	/* RSEQ_SIG, which stands before it */
	"	.long	0x53053053\n"
	"upcall_abort:\n"
	"	mov	$0x5ad, %eax\n"
	"	jmp	*%rcx\n"
	"	.balign 64\n"
	"odd_syscall:\n"
	"	mov	%rdi, %rax\n"
	"	mov	%rdx, %r8\n"
	"	push	%rsi\n"
	"	popfq\n"
	"	syscall\n"
	"odd_syscall_ip:\n"
	"	pushfq\n"
	"	popq	(%r8)\n"
	"	push	$2\n"
	"	popfq\n"
	"	cld\n"
	"	ret\n"
	"probed_syscall:\n"
	"	mov	%rdi, %rax\n"
	"	syscall\n"
	"probed_syscall_ip:\n"
	"	nop\n"
	"	nop\n"
	"	ret\n"
	".popsection\n");

#endif /* __SUD_UPCALL_H */
