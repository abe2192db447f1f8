// SPDX-License-Identifier: GPL-2.0
/*
 * A syscall tracer of one's own process, by Syscall User Dispatch
 *
 * Between block() and allow() each syscall is sent back as SIGSYS; the handler
 * prints its number and arguments and then makes it, from the gate. It is what
 * strace does, without a second process and without a context switch.
 *
 * Because the handler makes the call, from its own frame, this is not for
 * calls that act on the caller's frame or mask: rt_sigreturn of other
 * handlers, vfork and clone with shared memory, rt_sigprocmask (undone when
 * the handler returns). Threads and children start off and are not traced.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#include "gate.h"

static unsigned long traced;

/* Not dprintf(): its write would be traced, inside the handler, and deadly */
static void say(const char *line, int len)
{
	gate_call(SYS_write, (long)STDOUT_FILENO, line, (long)len);
}

static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	greg_t *reg = ((ucontext_t *)context)->uc_mcontext.gregs;
	char line[192];

	/* Not ours: somebody sent this signal with kill(2), or seccomp did */
	if (sig != SIGSYS || info->si_code != SYS_USER_DISPATCH)
		return;

	traced++;

	/* First the call, since some never return, then the result */
	say(line, snprintf(line, sizeof(line),
			   "%p: %lld(%#llx, %#llx, %#llx, %#llx, %#llx, %#llx)",
			   info->si_call_addr, reg[REG_RAX], reg[REG_RDI],
			   reg[REG_RSI], reg[REG_RDX], reg[REG_R10],
			   reg[REG_R8], reg[REG_R9]));
	reg[REG_RAX] = gate_call(reg[REG_RAX], reg[REG_RDI], reg[REG_RSI],
				 reg[REG_RDX], reg[REG_R10], reg[REG_R8],
				 reg[REG_R9]);
	say(line, snprintf(line, sizeof(line), " = %lld\n", reg[REG_RAX]));
}

/* Any code will do: it neither knows nor notices that it is traced. */
static int workload(void)
{
	char buf[64];
	int fd;

	fd = open("/dev/zero", O_RDONLY);
	if (fd < 0)
		return -1;
	memset(buf, 1, sizeof(buf));
	if (read(fd, buf, sizeof(buf)) != sizeof(buf) || buf[0] || close(fd))
		return -1;
	return close(-1) == -1 && errno == EBADF ? 0 : -1;
}

int main(void)
{
	unsigned long expected = 4;
	int ret;

	gate_handle_sigsys(on_sigsys);
	arm_outside_gate();

	block();
	ret = workload();
	allow();

	disarm();

	if (ret)
		errx(1, "FAILED: the workload noticed that it was traced");
	if (traced != expected)
		errx(1, "FAILED: %lu calls traced, expected %lu", traced, expected);
	printf("tracer: %lu calls traced, as expected\n", traced);
	return 0;
}
