/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A handler for the upcall of Syscall User Dispatch
 *
 * The kernel jumps here instead of raising SIGSYS. The handler finds
 *
 *	rax	the number of the foreign syscall
 *	rcx	the address to resume at
 *	r11	the flags at the instruction; the register is free to clobber
 *	flags	the same, but with DF and TF clear
 *
 * and everything else as the foreign code left it: its stack pointer, which
 * need not point to a stack, and its AC, NT, x87, MXCSR and vectors, which are
 * not what a C function expects. The C library's fs base is not here either if
 * foreign code changes it; a personality that lets it would load its own with
 * WRFSBASE before the call below.
 *
 * No signal is blocked. One may arrive at any instruction, on whatever stack
 * is current or on the alternate stack, and its handler may run foreign code
 * whose syscalls come here again, before this one has ended. So there must be
 * no moment at which the only copy of something lies where a nested upcall
 * would write. That is what the levels are for.
 */
#include "upcall.h"

	.text

/*
 * The stub, of which each thread has a copy. It finds the thread's data
 * relative to its own address, hence needs neither a register nor a segment
 * for that, and hands the data on in r11.
 *
 * There is a copy of the code for each level of nesting, with a busy flag, a
 * frame and a stack of its own. A nested upcall takes the next level. It would
 * not do to ask whether rsp points to our stack already: in a signal handler
 * on the alternate stack it does not, and our stack is in use all the same.
 *
 * Between the test of the busy flag and the store nothing has been saved yet.
 * A nested upcall may come in between and take the same level: it gives it
 * back before this one goes on. The test may change the flags, as r11 still
 * has them.
 */
#define DATA		(upcall_stub + UPCALL_PAGE)
#define LEVEL(n)	(DATA + THREAD_LEVEL + (n) * LEVEL_SIZE)
#define TOP(n)		(DATA + UPCALL_PAGE + ((n) + 1) * UPCALL_STACK - UPCALL_XSTATE)

	.balign 64
	.globl	upcall_stub, upcall_stub_end
upcall_stub:
	.set	n, 0
	.rept	UPCALL_LEVELS
	cmpb	$0, LEVEL(n) + LEVEL_BUSY(%rip)
	jne	1f
	movb	$1, LEVEL(n) + LEVEL_BUSY(%rip)
	/* The last member of struct upcall_regs: sp. The one below is flags. */
	mov	%rsp, TOP(n) - 8(%rip)
	lea	TOP(n) - 8(%rip), %rsp
	push	%r11
	lea	LEVEL(n)(%rip), %r11
	jmp	*DATA + THREAD_COMMON(%rip)
1:
	.set	n, n + 1
	.endr
	/*
	 * Too deep. Either UPCALL_LEVELS is too small, or a signal handler
	 * that interrupted an upcall was left by longjmp(): who does that has
	 * to clear the busy flags of the levels that it abandons.
	 */
	ud2
upcall_stub_end:

/*
 * What all stubs have in common. r11 points to the level, rsp to its stack.
 *
 * The foreign code looks like the caller of this function to debuggers and
 * unwinders once the directives below say where its registers are. Its next
 * instruction is a return address, not the place of an interruption, so this
 * is not a signal frame. (gdb stops here all the same if the foreign stack is
 * below ours in memory: it takes that for a corrupt stack.)
 */
	.globl	upcall_common
	.type	upcall_common, @function
upcall_common:
	.cfi_startproc
	.cfi_undefined rip
	/* struct upcall_regs, from its end to its beginning */
	push	%rcx				/* ip */
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%r10
	push	%r9
	push	%r8
	push	%rbp
	push	%rdi
	push	%rsi
	push	%rdx
	push	%rbx
	push	%rax
	/* These three survive the call. */
	mov	%rsp, %rbx
	mov	%r11, %r12
	mov	LEVEL_THREAD(%r12), %r13
	/* cfa = sp, rip = ip, and rbx, r12, r13, each at an offset from rbx */
	.cfi_escape 0x0f, 4, 0x73, 0xf8, 0x00, 0x06
	.cfi_escape 0x10, 16, 3, 0x73, 0xe8, 0x00
	.cfi_escape 0x10, 3, 2, 0x73, 0x08
	.cfi_escape 0x10, 12, 3, 0x73, 0xc8, 0x00
	.cfi_escape 0x10, 13, 3, 0x73, 0xd0, 0x00

	/* C code expects AC and NT clear; DF is. */
	pushq	$2
	popfq

	/*
	 * A C function may change any vector register: even if this one is
	 * compiled for SSE only, the memcpy() that it calls uses what the
	 * processor has. A handler in assembly, or one that is compiled with
	 * -mgeneral-regs-only and calls nothing else, saves this part.
	 *
	 * XSAVE leaves parts of its header alone and XRSTOR wants them zero.
	 * So the area is a fixed one, zero from the start and used for nothing
	 * else.
	 */
	mov	THREAD_XMASK(%r13), %eax
	mov	THREAD_XMASK + 4(%r13), %edx
	test	%eax, %eax
	jz	1f
	xsave64	REGS_SIZE(%rbx)
	jmp	2f
1:	fxsave64 REGS_SIZE(%rbx)
2:
	/* The foreign code's rounding, masks and MMX registers are its own. */
	fninit
	ldmxcsr	.Lmxcsr(%rip)

	mov	%r13, %rdi
	mov	%rbx, %rsi
	call	upcall_emulate

	mov	THREAD_XMASK(%r13), %eax
	mov	THREAD_XMASK + 4(%r13), %edx
	test	%eax, %eax
	jz	1f
	xrstor64 REGS_SIZE(%rbx)
	jmp	2f
1:	fxrstor64 REGS_SIZE(%rbx)
2:
	mov	%r12, %r11
	.cfi_undefined rip
	pop	%rax
	pop	%rbx
	pop	%rdx
	pop	%rsi
	pop	%rdi
	pop	%rbp
	pop	%r8
	pop	%r9
	pop	%r10
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	pop	%rcx

	/*
	 * From here on no instruction may change the flags. They are popped
	 * while rsp still is ours: the foreign stack must not be written to.
	 * If the foreign code has set TF, it traps at the two instructions
	 * before the jump too; its SIGTRAP handler has to bear that. (IRETQ
	 * would do it in one, but faults if NT is set.)
	 *
	 * The level is given back last: up to the jump, a signal that arrives
	 * on this stack has its frame here.
	 */
	popfq
	pop	%rsp
	movb	$0, LEVEL_BUSY(%r11)
	jmp	*%rcx
	.cfi_endproc
	.size	upcall_common, . - upcall_common

/*
 * Foreign code that notices everything: load all registers from probe->in,
 * make a syscall, store all registers in probe->out. rsp is the only pointer
 * that is left then. What is below it is checked as well, so nothing is pushed
 * there.
 */
	.globl	upcall_probe
	.type	upcall_probe, @function
upcall_probe:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, PROBE_NATIVE_SP(%rdi)
	mov	%rdi, %rsp
	mov	PROBE_XMASK(%rsp), %eax
	mov	PROBE_XMASK + 4(%rsp), %edx
	test	%eax, %eax
	jz	1f
	xrstor64 PROBE_XIN(%rsp)
	jmp	2f
1:	fxrstor64 PROBE_XIN(%rsp)
2:
	mov	PROBE_IN + 0(%rsp), %rax
	mov	PROBE_IN + 8(%rsp), %rbx
	mov	PROBE_IN + 16(%rsp), %rdx
	mov	PROBE_IN + 24(%rsp), %rsi
	mov	PROBE_IN + 32(%rsp), %rdi
	mov	PROBE_IN + 40(%rsp), %rbp
	mov	PROBE_IN + 48(%rsp), %r8
	mov	PROBE_IN + 56(%rsp), %r9
	mov	PROBE_IN + 64(%rsp), %r10
	mov	PROBE_IN + 72(%rsp), %r12
	mov	PROBE_IN + 80(%rsp), %r13
	mov	PROBE_IN + 88(%rsp), %r14
	mov	PROBE_IN + 96(%rsp), %r15
	lea	PROBE_IN + 112(%rsp), %rsp
	popfq
	lea	-(PROBE_IN + 120)(%rsp), %rsp
	syscall
	mov	%rsp, PROBE_OUT + 120(%rsp)
	lea	PROBE_OUT + 120(%rsp), %rsp
	pushfq
	lea	-(PROBE_OUT + 112)(%rsp), %rsp
	mov	%rax, PROBE_OUT + 0(%rsp)
	mov	%rbx, PROBE_OUT + 8(%rsp)
	mov	%rdx, PROBE_OUT + 16(%rsp)
	mov	%rsi, PROBE_OUT + 24(%rsp)
	mov	%rdi, PROBE_OUT + 32(%rsp)
	mov	%rbp, PROBE_OUT + 40(%rsp)
	mov	%r8, PROBE_OUT + 48(%rsp)
	mov	%r9, PROBE_OUT + 56(%rsp)
	mov	%r10, PROBE_OUT + 64(%rsp)
	mov	%r12, PROBE_OUT + 72(%rsp)
	mov	%r13, PROBE_OUT + 80(%rsp)
	mov	%r14, PROBE_OUT + 88(%rsp)
	mov	%r15, PROBE_OUT + 96(%rsp)
	mov	%rcx, PROBE_OUT + 104(%rsp)
	mov	%rsp, %rdi
	mov	PROBE_XMASK(%rdi), %eax
	mov	PROBE_XMASK + 4(%rdi), %edx
	test	%eax, %eax
	jz	1f
	xsave64	PROBE_XOUT(%rdi)
	jmp	2f
1:	fxsave64 PROBE_XOUT(%rdi)
2:
	fninit
	ldmxcsr	.Lmxcsr(%rip)
	mov	PROBE_NATIVE_SP(%rdi), %rsp
	pushq	$2
	popfq
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret
	.size	upcall_probe, . - upcall_probe

/* Foreign code that comes in by the other gate of the kernel */
	.globl	upcall_int80
	.type	upcall_int80, @function
upcall_int80:
	mov	$0x5ea10005, %eax		/* FOREIGN_NOTHING */
	int	$0x80
	dec	%rdi
	jnz	upcall_int80
	ret
	.size	upcall_int80, . - upcall_int80

	.section .rodata
	.balign	4
.Lmxcsr:
	.long	0x1f80

	.section .note.GNU-stack, "", @progbits
