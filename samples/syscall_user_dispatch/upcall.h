/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the upcall handler (upcall.S) and its C side (upcall.c) agree on
 *
 * Each thread has a block of memory of its own:
 *
 *	stub	a copy of upcall_stub, made executable; this is the address
 *		that the kernel is told
 *	data	struct upcall_thread
 *	stacks	one for each level of nesting, with a guard page below each
 *
 * The distances are fixed, so the stub reaches all of it relative to its own
 * address, without a register.
 */
#ifndef _UPCALL_H
#define _UPCALL_H

#define UPCALL_LEVELS	8
#define UPCALL_PAGE	0x1000
#define UPCALL_STACK	0x10000		/* one stack, with guard and xstate */
#define UPCALL_XSTATE	0x1000		/* at the top of each stack */
#define UPCALL_BLOCK	(2 * UPCALL_PAGE + UPCALL_LEVELS * UPCALL_STACK)

/* Offsets in the structures below */
#define THREAD_COMMON	0
#define THREAD_XMASK	8
#define THREAD_LEVEL	16
#define LEVEL_SIZE	16
#define LEVEL_BUSY	0
#define LEVEL_THREAD	8
#define REGS_SIZE	128

#define PROBE_IN	0
#define PROBE_OUT	REGS_SIZE
#define PROBE_NATIVE_SP	(2 * REGS_SIZE)
#define PROBE_XMASK	(2 * REGS_SIZE + 8)
#define PROBE_XIN	(2 * REGS_SIZE + 64)
#define PROBE_XOUT	(PROBE_XIN + UPCALL_XSTATE)

#ifndef __ASSEMBLER__

#include <stdint.h>

/*
 * The registers of the code that made the syscall. What the C side changes
 * here, that code finds. rcx and r11 are not among them: SYSCALL overwrites
 * them on any kernel.
 */
struct upcall_regs {
	uint64_t ax, bx, dx, si, di, bp, r8, r9, r10, r12, r13, r14, r15;
	uint64_t ip, flags, sp;
};

struct upcall_level {
	uint64_t busy;
	struct upcall_thread *thread;
};

struct upcall_thread {
	void (*common)(void);
	uint64_t xmask;			/* what XSAVE has to save; 0: no XSAVE */
	struct upcall_level level[UPCALL_LEVELS];
	/* From here on upcall.S does not care */
	char selector;
	unsigned long upcalls, sigsys, gate, deepest;
};

/* For upcall_probe(): registers before and after a foreign syscall */
struct upcall_probe {
	struct upcall_regs in, out;
	uint64_t native_sp, xmask, pad[6];
	unsigned char xin[UPCALL_XSTATE], xout[UPCALL_XSTATE];
};

_Static_assert(sizeof(struct upcall_regs) == REGS_SIZE, "");
_Static_assert(sizeof(struct upcall_level) == LEVEL_SIZE, "");
_Static_assert(__builtin_offsetof(struct upcall_level, thread) == LEVEL_THREAD, "");
_Static_assert(__builtin_offsetof(struct upcall_thread, xmask) == THREAD_XMASK, "");
_Static_assert(__builtin_offsetof(struct upcall_thread, level) == THREAD_LEVEL, "");
_Static_assert(__builtin_offsetof(struct upcall_probe, native_sp) == PROBE_NATIVE_SP, "");
_Static_assert(__builtin_offsetof(struct upcall_probe, xin) == PROBE_XIN, "");
_Static_assert(__builtin_offsetof(struct upcall_probe, xout) == PROBE_XOUT, "");

extern const char upcall_stub[], upcall_stub_end[];
void upcall_common(void);

/* The C side of the handler */
void upcall_emulate(struct upcall_thread *thread, struct upcall_regs *regs);

/* Foreign code, to be called with the selector at BLOCK */
void upcall_probe(struct upcall_probe *probe);
long upcall_int80(long n);

#endif /* !__ASSEMBLER__ */
#endif /* _UPCALL_H */
