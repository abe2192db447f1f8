// SPDX-License-Identifier: GPL-2.0
/*
 * Checkpoint and restore of Syscall User Dispatch, by ptrace
 *
 * A tracer reads the configuration of an armed tracee, disarms it, and arms it
 * again with what it has read, as a checkpoint tool does when it moves a
 * process. At each step the tracee makes the same two foreign calls, one
 * inside its region and one outside, and reports which were dispatched.
 *
 * Usage: checkpoint [inclusive]
 *
 * The default is an EXCLUSIVE region. A kernel that reports an INCLUSIVE one
 * as something else cannot restore it, and the second form fails there.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <linux/ptrace.h>

#include "gate.h"

#define FOREIGN_NR	0x5ea10001L
#define DISPATCHED	42

/* Which of the tracee's two calls were dispatched */
enum { NONE = 0, INSIDE = 1, OUTSIDE = 2 };

/*
 * The other way to get out of a handler: leave the selector at ALLOW, so that
 * the C library's own restorer needs no exemption. It serves where the code
 * that was interrupted can set BLOCK again by itself.
 */
static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	if (sig != SIGSYS || info->si_code != SYS_USER_DISPATCH)
		return;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = DISPATCHED;
	allow();
}

static int foreign_calls(void)
{
	int seen = NONE;

	block();
	if (gate_call(FOREIGN_NR) == DISPATCHED)
		seen |= INSIDE;
	block();
	if (syscall(FOREIGN_NR) == DISPATCHED)
		seen |= OUTSIDE;
	allow();
	return seen;
}

static long trace(long request, pid_t pid, unsigned long addr, void *data)
{
	long ret = syscall(SYS_ptrace, request, (long)pid, addr, data);

	if (ret)
		err(1, "FAILED: ptrace request %#lx", request);
	return ret;
}

/* Arms itself, then makes its calls and stops, over and over */
static void tracee(unsigned long mode, int *seen)
{
	struct sigaction act = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };

	sigfillset(&act.sa_mask);
	if (sigaction(SIGSYS, &act, NULL))
		err(1, "no handler for SIGSYS");
	trace(PTRACE_TRACEME, 0, 0, NULL);
	raise(SIGSTOP);
	arm(mode, gate_start, gate_end - gate_start);
	for (;;) {
		*seen = foreign_calls();
		raise(SIGSTOP);
	}
}

static void wait_for(pid_t pid, int sig)
{
	int status;

	/* A dispatch is seen as what it is, a signal: pass it on */
	while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		if (WSTOPSIG(status) == sig)
			return;
		trace(PTRACE_CONT, pid, 0, (void *)(long)WSTOPSIG(status));
	}
	errx(1, "FAILED: the tracee is gone, status %#x", status);
}

static void expect(pid_t pid, const char *when, int *seen, int want)
{
	static const char * const name[] = {
		"none", "the one inside", "the one outside", "both"
	};

	*seen = -1;
	trace(PTRACE_CONT, pid, 0, NULL);
	wait_for(pid, SIGSTOP);
	printf("%-10s dispatched: %s\n", when, name[*seen & 3]);
	if (*seen != want)
		errx(1, "FAILED: %s: expected %s", when, name[want]);
}

int main(int argc, char **argv)
{
	unsigned long mode = PR_SYS_DISPATCH_EXCLUSIVE_ON;
	struct ptrace_sud_config saved, again, off = {};
	int want = OUTSIDE;
	pid_t pid;
	int *seen;

	if (argc > 1 && !strcmp(argv[1], "inclusive")) {
		mode = PR_SYS_DISPATCH_INCLUSIVE_ON;
		want = INSIDE;
	}

	setvbuf(stdout, NULL, _IOLBF, 0);
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED)
		err(1, "no shared memory");
	pid = fork();
	if (!pid)
		tracee(mode, seen);
	wait_for(pid, SIGSTOP);
	trace(PTRACE_SETOPTIONS, pid, 0, (void *)PTRACE_O_EXITKILL);

	expect(pid, "armed:", seen, want);
	trace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, pid, sizeof(saved), &saved);
	printf("saved:     mode %llu, region %#llx + %#llx, selector %#llx\n",
	       saved.mode, saved.offset, saved.len, saved.selector);

	trace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, pid, sizeof(off), &off);
	expect(pid, "disarmed:", seen, NONE);

	trace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, pid, sizeof(saved), &saved);
	trace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, pid, sizeof(again), &again);
	if (memcmp(&saved, &again, sizeof(saved)))
		errx(1, "FAILED: the restored configuration differs");
	expect(pid, "restored:", seen, want);

	printf("checkpoint: dispatches as before\n");
	return 0;
}
