// SPDX-License-Identifier: GPL-2.0
/*
 * A program for debuggers: it has one function whose syscalls are dispatched,
 * and waits in a native syscall first if it is asked to.
 *
 *	armed [read | futex | nanosleep]
 *
 * The wait ends when a byte is read, or by SIGUSR1 for nanosleep.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
# define PR_SET_SYSCALL_USER_DISPATCH	59
#endif
#define INCLUSIVE	2
#define EMULATED	0x5ad

long foreign(long nr);
long permitted(long nr);
extern const char foreign_begin[], foreign_end[];

asm(".macro	stub name:req\n"
	"	.globl	\\name\n"
	"	.type	\\name, @function\n"
	"\\name:\n"
	"	mov	%rdi, %rax\n"
	"\\name\\()_call:\n"
	"	syscall\n"
	"\\name\\()_after:\n"
	"	ret\n"
	"	.size	\\name, . - \\name\n"
	".endm\n"
	"foreign_begin:\n"
	"	stub	foreign\n"
	"foreign_end:\n"
	"	stub	permitted\n");

static int dispatches;

static void emulate(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	dispatches++;
	uc->uc_mcontext.gregs[REG_RAX] = EMULATED;
}

static int word;

/* Wakes who waits for the word, however often it is waited for. */
static void *wake(void *arg)
{
	char byte;

	if (read(0, &byte, 1) == 1) {
		__atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
	return NULL;
}

static void nothing(int sig)
{
}

static long wait_as_asked(const char *how)
{
	const struct sigaction action = { .sa_handler = nothing };
	const struct timespec long_enough = { 1000, 0 };
	pthread_t thread;
	char byte;

	if (!strcmp(how, "read"))
		return read(0, &byte, 1);
	if (!strcmp(how, "futex")) {
		pthread_create(&thread, NULL, wake, NULL);
		return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &long_enough, NULL, 0);
	}
	if (!strcmp(how, "nanosleep")) {
		sigaction(SIGUSR1, &action, NULL);
		return nanosleep(&long_enough, NULL);
	}
	return -1;
}

int main(int argc, char **argv)
{
	const struct sigaction action = {
		.sa_sigaction = emulate,
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	if (sigaction(SIGSYS, &action, NULL) ||
	    prctl(PR_SET_SYSCALL_USER_DISPATCH, INCLUSIVE, foreign_begin,
		  foreign_end - foreign_begin, 0)) {
		perror("armed");
		return 1;
	}
	if (argc > 1) {
		long ret;

		printf("waits %d\n", getpid());
		fflush(stdout);
		errno = 0;
		ret = wait_as_asked(argv[1]);
		printf("%s returned %ld, errno %d\n", argv[1], ret, errno);
	}
	printf("foreign %#lx\n", foreign(SYS_getppid));
	printf("permitted %d\n", permitted(SYS_getppid) == getppid());
	printf("dispatches %d\n", dispatches);
	return 0;
}
