// SPDX-License-Identifier: GPL-2.0
/*
 * Two operating systems in one process, by Syscall User Dispatch
 *
 * A program for another operating system (foreign.h) runs inside this native
 * one. Its system calls mean nothing to Linux: the kernel sends each one back
 * as SIGSYS, and the handler does what the foreign kernel would have done.
 * Native code meanwhile makes its own syscalls at nearly full speed, because
 *
 *  - the selector, a byte that the kernel reads at each syscall, is set to
 *    BLOCK while foreign code runs and to ALLOW while native code runs; that
 *    is a store to memory, not a syscall, so crossing the boundary is cheap;
 *  - the gate (gate.h) is the region from which syscalls always run.
 *
 * Every call is counted on the way it went, and the counts are compared with
 * what the foreign program is known to do; one too many or too few is fatal.
 *
 * This is the smallest personality there can be. A real one also gives each
 * thread a selector, arms new threads itself (they start off), handles SIGSYS
 * on a stack of its own and restores the native fs base where foreign code
 * changes it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include "foreign.h"
#include "gate.h"

#define CARRY		1	/* the carry flag in EFLAGS */
#define PAGE		4096UL
#define ROUNDS		5
#define NATIVE_CALLS	20000L
#define FOREIGN_CALLS	2000L

static char *foreign_page;

/* How many calls went which way */
static struct {
	unsigned long foreign;		/* dispatched: the foreign program's */
	unsigned long trapped;		/* dispatched: native, selector BLOCK */
	unsigned long by_region;
	unsigned long by_selector;
} calls;

/* What the foreign program wrote */
static char said[4096];
static size_t said_len;

/* Native code for the foreign side: ALLOW on the way in, BLOCK on the way out */
static long native(long nr, long a, long b, long c)
{
	long ret;

	allow();
	calls.by_selector++;
	ret = syscall(nr, a, b, c);
	block();
	return ret;
}

/* What a foreign program calls directly, as if from a library of its own */
static long imported_getpid(void)
{
	return native(SYS_getpid, 0, 0, 0);
}

static long foreign_write(const char *text, size_t len)
{
	if (len > sizeof(said) - said_len)
		return -ENOSPC;
	memcpy(said + said_len, text, len);
	said_len += len;

	/* From the gate: no need to touch the selector, which says BLOCK */
	calls.by_region++;
	return gate_call(SYS_write, (long)STDOUT_FILENO, text, len);
}

/*
 * Runs with the selector at BLOCK and all signals masked. The context that it
 * changes is what the foreign code finds after its syscall instruction.
 */
static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	greg_t *reg = ((ucontext_t *)context)->uc_mcontext.gregs;
	unsigned long from = (unsigned long)info->si_call_addr;
	int saved_errno = errno;
	long ret;

	/* Not ours: somebody sent this signal with kill(2), or seccomp did */
	if (sig != SIGSYS || info->si_code != SYS_USER_DISPATCH)
		return;

	/* Native code that forgot the selector: do what it meant to do */
	if (from - (unsigned long)foreign_page >= PAGE) {
		calls.trapped++;
		calls.by_region++;
		reg[REG_RAX] = gate_call(reg[REG_RAX], reg[REG_RDI], reg[REG_RSI],
					 reg[REG_RDX], reg[REG_R10],
					 reg[REG_R8], reg[REG_R9]);
		return;
	}

	calls.foreign++;
	switch (reg[REG_RAX]) {
	case FOREIGN_OPEN:
		ret = native(SYS_open, reg[REG_RDX], O_RDONLY, 0);
		break;
	case FOREIGN_READ:
		ret = native(SYS_read, reg[REG_RDX], reg[REG_R8], reg[REG_R9]);
		break;
	case FOREIGN_WRITE:
		ret = foreign_write((const char *)reg[REG_RDX], reg[REG_R8]);
		break;
	case FOREIGN_CLOSE:
		ret = native(SYS_close, reg[REG_RDX], 0, 0);
		break;
	case FOREIGN_NOTHING:
		ret = 0;
		break;
	default:
		ret = -1;
	}

	/* Answer as the foreign kernel would: in rdx, with carry for errors */
	reg[REG_RDX] = ret < 0 ? FOREIGN_ERROR : ret;
	reg[REG_EFL] = ret < 0 ? reg[REG_EFL] | CARRY : reg[REG_EFL] & ~CARRY;
	errno = saved_errno;
}

static void load_foreign(void)
{
	foreign_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (foreign_page == MAP_FAILED)
		err(1, "no page for the foreign program");
	memcpy(foreign_page, foreign_image, foreign_end - foreign_image);
	if (mprotect(foreign_page, PAGE, PROT_READ | PROT_EXEC))
		err(1, "the foreign program cannot be made executable");
}

static long run_foreign(const char *function, long arg)
{
	long (*enter)(long arg);
	long ret;

	enter = (void *)(foreign_page + (function - foreign_image));
	block();
	ret = enter(arg);
	allow();
	return ret;
}

static void check(const char *what, unsigned long got, unsigned long want)
{
	printf("  %-48s %6lu\n", what, got);
	if (got != want)
		errx(1, "FAILED: %s: %lu, expected %lu", what, got, want);
}

static void demonstrate(void)
{
	unsigned long reads, writes, dispatched;
	char want[sizeof(said)] = FOREIGN_HELLO;
	size_t want_len = strlen(want);
	long pid, parent, len;
	int fd;

	/* What has to happen follows from the length of the file. */
	fd = open(FOREIGN_FILE, O_RDONLY);
	len = read(fd, want + want_len, sizeof(want) - want_len);
	if (len <= 0)
		err(1, "cannot read %s", FOREIGN_FILE);
	close(fd);
	want_len += len;
	reads = (len + FOREIGN_CHUNK - 1) / FOREIGN_CHUNK + 1;	/* and the end */
	writes = reads;						/* and hello */
	dispatched = writes + 2 + reads + 1;			/* open, close */

	arm_outside_gate();

	/* The foreign program ... */
	pid = run_foreign(foreign_main, (long)imported_getpid);

	/* ... and a native call with the selector wrongly left at BLOCK */
	block();
	parent = syscall(SYS_getppid);
	allow();

	disarm();

	if (pid != getpid())
		errx(1, "FAILED: the foreign program met an error");
	if (said_len != want_len || memcmp(said, want, want_len))
		errx(1, "FAILED: the foreign program said something else");
	if (parent != getppid())
		errx(1, "FAILED: the trapped native call returned %ld", parent);

	printf("Which way the calls went:\n");
	check("foreign: dispatched and emulated", calls.foreign, dispatched);
	check("native: trapped, selector left at BLOCK", calls.trapped, 1);
	check("native: direct by selector", calls.by_selector, 2 + reads + 1 + 1);
	check("native: direct by region, the handler's own", calls.by_region, writes + 1);
	check("native: direct by region, return from handler", gate_returns, dispatched + 1);
}

/* The same stub every time, so that only the way it goes makes a difference */
static long native_calls(long n)
{
	while (n--)
		gate_call(SYS_getppid);
	return 0;
}

static long foreign_calls(long n)
{
	return run_foreign(foreign_loop, n);
}

static void cost(const char *what, long (*loop)(long n), long n, char value)
{
	struct timespec a, b;
	double ns, best = 0;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		clock_gettime(CLOCK_MONOTONIC, &a);
		set_selector(value);
		loop(n);
		allow();
		clock_gettime(CLOCK_MONOTONIC, &b);
		ns = ((b.tv_sec - a.tv_sec) * 1e9 + b.tv_nsec - a.tv_nsec) / n;
		if (!i || ns < best)
			best = ns;
	}
	printf("  %-48s %6.0f ns\n", what, best);
}

static void measure(void)
{
	unsigned long before = calls.foreign + calls.trapped;

	printf("What a call costs, best of %d rounds:\n", ROUNDS);
	cost("native: dispatch off", native_calls, NATIVE_CALLS,
	     SYSCALL_DISPATCH_FILTER_ALLOW);
	arm_outside_gate();
	cost("native: direct by region", native_calls, NATIVE_CALLS,
	     SYSCALL_DISPATCH_FILTER_BLOCK);
	/* Without a region the gate is as outside as everything else */
	arm(PR_SYS_DISPATCH_EXCLUSIVE_ON, NULL, 0);
	cost("native: direct by selector", native_calls, NATIVE_CALLS,
	     SYSCALL_DISPATCH_FILTER_ALLOW);
	arm_outside_gate();
	cost("foreign: dispatched and emulated", foreign_calls, FOREIGN_CALLS,
	     SYSCALL_DISPATCH_FILTER_BLOCK);
	disarm();
	printf("  (Under emulation, such as QEMU's TCG, these nanoseconds are the\n"
	       "  emulator's: compare them with each other, not with a processor's.)\n");
	check("calls dispatched meanwhile",
	      calls.foreign + calls.trapped - before, ROUNDS * FOREIGN_CALLS);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	gate_handle_sigsys(on_sigsys);
	load_foreign();
	demonstrate();
	measure();
	printf("personality: all counts are as expected\n");
	return 0;
}
