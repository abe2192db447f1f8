/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The foreign program: everything here belongs to another operating system.
 *
 * Its kernel takes the call number in rax, the arguments in rdx, r8 and r9,
 * and answers in rdx, with the carry flag set if the answer is an error. Its
 * numbers mean nothing to Linux, and Linux's mean nothing to it.
 */
#ifndef _FOREIGN_H
#define _FOREIGN_H

#define FOREIGN_OPEN	0x5ea10001	/* rdx: path; a handle */
#define FOREIGN_READ	0x5ea10002	/* rdx: handle, r8: buffer, r9: size */
#define FOREIGN_WRITE	0x5ea10003	/* rdx: text, r8: size */
#define FOREIGN_CLOSE	0x5ea10004	/* rdx: handle */
#define FOREIGN_NOTHING	0x5ea10005

/* What a foreign call that fails answers */
#define FOREIGN_ERROR	0xbad

/* What the program does: say hello, fail to open one file, copy another out */
#define FOREIGN_HELLO	"Hello from another world. Your /proc/version says:\n"
#define FOREIGN_ABSENT	"/no/such/file"
#define FOREIGN_FILE	"/proc/version"
#define FOREIGN_CHUNK	32

#define FOREIGN_STR_(x)	#x
#define FOREIGN_STR(x)	FOREIGN_STR_(x)
#define FOREIGN_CALL(name)				\
	"	mov	$" FOREIGN_STR(name) ", %eax\n"	\
	"	syscall\n"

/*
 * The image of the program, to be loaded anywhere. It has two functions:
 *
 * foreign_main() gets the address of a native function, as a program that
 * was linked against a natively implemented library does. It returns what
 * that function returned, or -1 if a system call misbehaved.
 *
 * foreign_loop() does nothing, as many times as it is told.
 */
extern const char foreign_image[], foreign_main[], foreign_loop[], foreign_end[];

asm(".pushsection .rodata.foreign, \"a\", @progbits\n"
"foreign_image:\n"
"foreign_main:\n"
"	push	%rbx\n"
"	push	%r12\n"
"	sub	$(" FOREIGN_STR(FOREIGN_CHUNK) " + 8), %rsp\n"
"	mov	%rdi, %r12\n"

"	lea	.Lhello(%rip), %rdx\n"
"	mov	$(.Lhello_end - .Lhello), %r8d\n"
FOREIGN_CALL(FOREIGN_WRITE)
"	jc	.Lfail\n"

"	lea	.Labsent(%rip), %rdx\n"
FOREIGN_CALL(FOREIGN_OPEN)
"	jnc	.Lfail\n"
"	cmp	$" FOREIGN_STR(FOREIGN_ERROR) ", %rdx\n"
"	jne	.Lfail\n"

"	lea	.Lfile(%rip), %rdx\n"
FOREIGN_CALL(FOREIGN_OPEN)
"	jc	.Lfail\n"
"	mov	%rdx, %rbx\n"

".Lcopy:\n"
"	mov	%rbx, %rdx\n"
"	mov	%rsp, %r8\n"
"	mov	$" FOREIGN_STR(FOREIGN_CHUNK) ", %r9d\n"
FOREIGN_CALL(FOREIGN_READ)
"	jc	.Lfail\n"
"	test	%rdx, %rdx\n"
"	jz	.Lclose\n"
"	mov	%rdx, %r8\n"
"	mov	%rsp, %rdx\n"
FOREIGN_CALL(FOREIGN_WRITE)
"	jnc	.Lcopy\n"

".Lfail:\n"
"	mov	$-1, %rax\n"
"	jmp	.Lout\n"

".Lclose:\n"
"	mov	%rbx, %rdx\n"
FOREIGN_CALL(FOREIGN_CLOSE)
"	jc	.Lfail\n"
"	call	*%r12\n"

".Lout:\n"
"	add	$(" FOREIGN_STR(FOREIGN_CHUNK) " + 8), %rsp\n"
"	pop	%r12\n"
"	pop	%rbx\n"
"	ret\n"

"foreign_loop:\n"
FOREIGN_CALL(FOREIGN_NOTHING)
"	dec	%rdi\n"
"	jnz	foreign_loop\n"
"	ret\n"

".Lhello:	.ascii	" FOREIGN_STR(FOREIGN_HELLO) "\n"
".Lhello_end:\n"
".Labsent:	.asciz	" FOREIGN_STR(FOREIGN_ABSENT) "\n"
".Lfile:	.asciz	" FOREIGN_STR(FOREIGN_FILE) "\n"
"foreign_end:\n"
".popsection\n");

#endif /* _FOREIGN_H */
