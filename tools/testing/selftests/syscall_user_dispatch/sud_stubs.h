/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The code that the Syscall User Dispatch tests make their syscalls with
 *
 * Programs under test consist of two kinds of code. Foreign code is the text
 * from foreign_begin to foreign_end, which makes a syscall for each call of a
 * foreign_*() function. All the rest is native: the tests themselves, libc,
 * and the native_*() functions, which are the same code at other addresses.
 * The label <function>_ip is the address after the syscall instruction.
 */
#ifndef __SUD_STUBS_H
#define __SUD_STUBS_H

#include <sys/ucontext.h>

/* A function that makes syscall @nr, as syscall() of libc does */
typedef long sud_stub(unsigned long nr, ...);

/*
 * A function that loads the general registers and the flags from @regs, all
 * but the stack pointer, executes a syscall instruction and stores them again.
 */
typedef void sud_regs_stub(gregset_t regs);

extern const char foreign_begin[], foreign_end[];

extern sud_stub native_syscall, foreign_syscall, foreign_second;
extern const char native_syscall_ip[], foreign_syscall_ip[], foreign_second_ip[];

extern sud_stub native_int80, foreign_int80;
extern const char foreign_int80_ip[];

/* These have no stack at the syscall, and take no arguments. */
extern sud_stub stackless_int80;
extern const char stackless_int80_ip[];

extern sud_regs_stub foreign_regs;
extern const char foreign_regs_ip[];

#ifdef __x86_64__

extern sud_stub stackless_syscall;
extern const char stackless_syscall_ip[];

extern sud_regs_stub foreign_regs_int80;

asm(".pushsection .text\n"
	".macro stub name:req\n"
	"\\name:\n"
	"	mov	%rdi, %rax\n"
	"	mov	%rsi, %rdi\n"
	"	mov	%rdx, %rsi\n"
	"	mov	%rcx, %rdx\n"
	"	mov	%r8, %r10\n"
	"	mov	%r9, %r8\n"
	"	mov	8(%rsp), %r9\n"
	"	syscall\n"
	"\\name\\()_ip:\n"
	"	ret\n"
	".endm\n"
	".macro int80_stub name:req\n"
	"\\name:\n"
	"	push	%rbx\n"
	"	push	%rbp\n"
	"	mov	%rdi, %rax\n"
	"	mov	%rsi, %rbx\n"
	"	xchg	%rcx, %rdx\n"
	"	mov	%r8, %rsi\n"
	"	mov	%r9, %rdi\n"
	"	int	$0x80\n"
	"\\name\\()_ip:\n"
	"	pop	%rbp\n"
	"	pop	%rbx\n"
	"	ret\n"
	".endm\n"
	".macro stackless_stub name:req, insn:vararg\n"
	"\\name:\n"
	"	push	%rbp\n"
	"	mov	%rsp, %rbp\n"
	"	mov	%rdi, %rax\n"
	"	xor	%esp, %esp\n"
	"	\\insn\n"
	"\\name\\()_ip:\n"
	"	mov	%rbp, %rsp\n"
	"	pop	%rbp\n"
	"	ret\n"
	".endm\n"
	".macro stackless_stubs\n"
	"	stackless_stub stackless_syscall syscall\n"
	"	stackless_stub stackless_int80 int $0x80\n"
	".endm\n"
	/* Offsets are those of gregset_t, which starts with r8 to r15 */
	".macro move_regs load\n"
	"	.set	offset, 0\n"
	"	.irp	reg, r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx\n"
	"	.ifnc	\\reg, rdi\n"
	"	.if	\\load\n"
	"	mov	offset(%rdi), %\\reg\n"
	"	.else\n"
	"	mov	%\\reg, offset(%rdi)\n"
	"	.endif\n"
	"	.endif\n"
	"	.set	offset, offset + 8\n"
	"	.endr\n"
	".endm\n"
	".macro regs_stub name:req, insn:vararg\n"
	"\\name:\n"
	"	push	%rbx\n"
	"	push	%rbp\n"
	"	push	%r12\n"
	"	push	%r13\n"
	"	push	%r14\n"
	"	push	%r15\n"
	"	push	%rdi\n"
	"	pushq	17*8(%rdi)\n"
	"	popfq\n"
	"	move_regs load=1\n"
	"	mov	8*8(%rdi), %rdi\n"
	"	\\insn\n"
	"\\name\\()_ip:\n"
	"	xchg	%rdi, (%rsp)\n"
	"	move_regs load=0\n"
	"	pushfq\n"
	"	popq	17*8(%rdi)\n"
	"	popq	8*8(%rdi)\n"
	"	pop	%r15\n"
	"	pop	%r14\n"
	"	pop	%r13\n"
	"	pop	%r12\n"
	"	pop	%rbp\n"
	"	pop	%rbx\n"
	"	ret\n"
	".endm\n"
	".macro regs_stubs\n"
	"	regs_stub foreign_regs syscall\n"
	"	regs_stub foreign_regs_int80 int $0x80\n"
	".endm\n"
	".popsection\n");

#else /* __i386__ */

/* Enters the kernel where the vDSO's instruction of this CPU does */
extern sud_stub native_vsyscall;

asm(".pushsection .text\n"
	".macro stub_with name:req, insn:vararg\n"
	"\\name:\n"
	"	push	%ebx\n"
	"	push	%esi\n"
	"	push	%edi\n"
	"	push	%ebp\n"
	"	mov	20(%esp), %eax\n"
	"	mov	24(%esp), %ebx\n"
	"	mov	28(%esp), %ecx\n"
	"	mov	32(%esp), %edx\n"
	"	mov	36(%esp), %esi\n"
	"	mov	40(%esp), %edi\n"
	"	mov	44(%esp), %ebp\n"
	"	\\insn\n"
	"\\name\\()_ip:\n"
	"	pop	%ebp\n"
	"	pop	%edi\n"
	"	pop	%esi\n"
	"	pop	%ebx\n"
	"	ret\n"
	".endm\n"
	".macro stub name:req\n"
	"	stub_with \\name, int $0x80\n"
	".endm\n"
	".macro int80_stub name:req\n"
	"	stub \\name\n"
	".endm\n"
	"	stub_with native_vsyscall, call *%gs:0x10\n"
	".macro stackless_stubs\n"
	"stackless_int80:\n"
	"	push	%ebp\n"
	"	mov	8(%esp), %eax\n"
	"	mov	%esp, %ebp\n"
	"	xor	%esp, %esp\n"
	"	int	$0x80\n"
	"stackless_int80_ip:\n"
	"	mov	%ebp, %esp\n"
	"	pop	%ebp\n"
	"	ret\n"
	".endm\n"
	/* Offsets are those of gregset_t here, too */
	".macro regs_stubs\n"
	"foreign_regs:\n"
	"	push	%ebx\n"
	"	push	%esi\n"
	"	push	%edi\n"
	"	push	%ebp\n"
	"	mov	20(%esp), %edi\n"
	"	push	%edi\n"
	"	pushl	16*4(%edi)\n"
	"	popfl\n"
	"	mov	5*4(%edi), %esi\n"
	"	mov	6*4(%edi), %ebp\n"
	"	mov	8*4(%edi), %ebx\n"
	"	mov	9*4(%edi), %edx\n"
	"	mov	10*4(%edi), %ecx\n"
	"	mov	11*4(%edi), %eax\n"
	"	mov	4*4(%edi), %edi\n"
	"	int	$0x80\n"
	"foreign_regs_ip:\n"
	"	xchg	%edi, (%esp)\n"
	"	mov	%esi, 5*4(%edi)\n"
	"	mov	%ebp, 6*4(%edi)\n"
	"	mov	%ebx, 8*4(%edi)\n"
	"	mov	%edx, 9*4(%edi)\n"
	"	mov	%ecx, 10*4(%edi)\n"
	"	mov	%eax, 11*4(%edi)\n"
	"	pushfl\n"
	"	popl	16*4(%edi)\n"
	"	popl	4*4(%edi)\n"
	"	pop	%ebp\n"
	"	pop	%edi\n"
	"	pop	%esi\n"
	"	pop	%ebx\n"
	"	ret\n"
	".endm\n"
	".popsection\n");

#endif

asm(".pushsection .text\n"
	"	stub native_syscall\n"
	"	int80_stub native_int80\n"
	"	.balign 64\n"
	"foreign_begin:\n"
	"	stub foreign_syscall\n"
	"	stub foreign_second\n"
	"	int80_stub foreign_int80\n"
	"	stackless_stubs\n"
	"	regs_stubs\n"
	"foreign_end:\n"
	"	.balign 64\n"
	".popsection\n");

#endif /* __SUD_STUBS_H */
