/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Common mechanics of the Syscall User Dispatch tests
 *
 * Like the syscalls themselves, what returns a long here returns -errno.
 */
#ifndef __SUD_H
#define __SUD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "sud_stubs.h"

/*
 * Nothing here is a matter of time. The limit, in seconds, is there to name the
 * test that hangs, also where an emulated processor waits for a busy host at each
 * switch between threads.
 */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	240

#ifndef PR_SET_SYSCALL_USER_DISPATCH
# define PR_SET_SYSCALL_USER_DISPATCH	59
# define PR_SYS_DISPATCH_OFF		0
# define SYSCALL_DISPATCH_FILTER_ALLOW	0
# define SYSCALL_DISPATCH_FILTER_BLOCK	1
#endif

#ifndef PR_SYS_DISPATCH_EXCLUSIVE_ON
# define PR_SYS_DISPATCH_EXCLUSIVE_ON	1
# define PR_SYS_DISPATCH_INCLUSIVE_ON	2
#endif

#ifndef SYS_USER_DISPATCH
# define SYS_USER_DISPATCH	2
#endif

#define OFF		PR_SYS_DISPATCH_OFF
#define EXCLUSIVE	PR_SYS_DISPATCH_EXCLUSIVE_ON
#define INCLUSIVE	PR_SYS_DISPATCH_INCLUSIVE_ON

#define ALLOW		SYSCALL_DISPATCH_FILTER_ALLOW
#define BLOCK		SYSCALL_DISPATCH_FILTER_BLOCK

/* The numbers that int $0x80 takes, also in 64-bit code */
#define IA32_NR_prctl	172
#define IA32_NR_ptrace	26
#define IA32_NR_getppid	64

#ifdef __x86_64__
# define SUD_ARCH	AUDIT_ARCH_X86_64
# define REG_AX		REG_RAX
# define REG_SP		REG_RSP
# define REG_IP		REG_RIP
#else
# define SUD_ARCH	AUDIT_ARCH_I386
# define REG_AX		REG_EAX
# define REG_SP		REG_ESP
# define REG_IP		REG_EIP
#endif

#define SUD_PAGE	4096

/* Every syscall instruction of x86 is two bytes long */
#define SYSCALL_INSN_SIZE	2

/* What a test and its children tell each other */
struct sud_shared {
	char selector;
	int dispatches;		/* SIGSYS from Syscall User Dispatch */
	int others;		/* SIGSYS from anybody else */
	unsigned int order;	/* of both: a digit each, 1 and 2 */
	siginfo_t info;		/* of the last dispatch, */
	gregset_t regs;		/* and the registers in its frame */
	void (*hook)(siginfo_t *info, ucontext_t *uc);
	int flag;		/* These are for the tests' own use. */
	pid_t tid;
	long result;
};

static struct sud_shared *sud;

static inline long sud_prctl(unsigned long mode, unsigned long offset,
			     unsigned long len, const void *selector)
{
	return native_syscall(__NR_prctl, (long)PR_SET_SYSCALL_USER_DISPATCH,
			      mode, offset, len, selector);
}

/* Foreign code is filtered, native code is not, whatever the selector says. */
static inline long sud_arm_foreign(const void *selector)
{
	return sud_prctl(INCLUSIVE, (unsigned long)foreign_begin,
			 foreign_end - foreign_begin, selector);
}

/* All code is filtered, while the shared selector says so. */
static inline long sud_arm_all(void)
{
	return sud_prctl(EXCLUSIVE, 0, 0, &sud->selector);
}

static inline void sud_handler(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	/* Where all code is filtered, the return from here must not be. */
	sud->selector = ALLOW;
	if (info->si_code == SYS_USER_DISPATCH) {
		sud->order = 10 * sud->order + 1;
		sud->dispatches++;
		memcpy(&sud->info, info, sizeof(*info));
		memcpy(sud->regs, uc->uc_mcontext.gregs, sizeof(sud->regs));
	} else {
		sud->order = 10 * sud->order + 2;
		sud->others++;
	}
	if (sud->hook)
		sud->hook(info, uc);
}

static inline int sud_sigaction(int sig, void (*handler)(int, siginfo_t *, void *),
				int flags)
{
	struct sigaction act = {
		.sa_sigaction = handler,
		.sa_flags = SA_SIGINFO | flags,
	};

	if (!(flags & SA_NODEFER))
		sigfillset(&act.sa_mask);
	return sigaction(sig, &act, NULL);
}

/* Start counting dispatches; each calls @hook, which may be NULL. */
static inline int sud_handle(void (*hook)(siginfo_t *info, ucontext_t *uc))
{
	memset(sud, 0, sizeof(*sud));
	sud->hook = hook;
	return sud_sigaction(SIGSYS, sud_handler, 0);
}

/* A hook that emulates the syscall */
#define SUD_EMULATED	0x5ad

static inline void sud_emulate(siginfo_t *info, ucontext_t *uc)
{
	uc->uc_mcontext.gregs[REG_AX] = SUD_EMULATED;
}

/* A hook that has the instruction executed once more */
static inline void sud_repeat(siginfo_t *info, ucontext_t *uc)
{
	uc->uc_mcontext.gregs[REG_IP] -= SYSCALL_INSN_SIZE;
}

/*
 * What becomes of a syscall made by @stub while the shared selector says block:
 * 1 if it is dispatched, once, and 0 if it runs. The handler has to leave the
 * registers alone.
 */
static inline int sud_dispatches_nr(sud_stub *stub, unsigned long getppid_nr)
{
	int before = sud->dispatches;
	long ret;

	sud->selector = BLOCK;
	ret = stub(getppid_nr);
	sud->selector = ALLOW;

	if (sud->dispatches == before && ret == getppid())
		return 0;
	if (sud->dispatches == before + 1 && ret == (long)getppid_nr)
		return 1;
	return -1;
}

static inline int sud_dispatches(sud_stub *stub)
{
	return sud_dispatches_nr(stub, __NR_getppid);
}

/* Fresh pages, or NULL. */
static inline char *sud_pages(int count, int prot)
{
	void *pages = mmap(NULL, count * SUD_PAGE, prot,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return pages == MAP_FAILED ? NULL : pages;
}

/* A child that does not outlive a test that failed. */
static inline pid_t sud_fork(void)
{
	pid_t pid = fork();

	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/* The wait status of a child that exits with the result of @fn. */
static inline int sud_run(int (*fn)(const void *arg), const void *arg)
{
	int status;
	pid_t pid;

	pid = sud_fork();
	if (!pid)
		_exit(fn(arg));
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

/* The signal that killed the child, or 0. */
static inline int sud_killed_by(int status)
{
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/*
 * Have @undo called with @arg when the test is over, even if it gets killed:
 * that is left to a process out of reach, which waits for the end of a pipe.
 */
struct sud_undo {
	int fd;
	pid_t pid;
};

static inline bool sud_undo_later(struct sud_undo *undo, void (*fn)(const void *arg),
				  const void *arg)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC))
		return false;
	undo->fd = fd[1];
	undo->pid = fork();
	if (!undo->pid) {
		setsid();
		close(fd[1]);
		read(fd[0], &(char) { 0 }, 1);
		fn(arg);
		_exit(0);
	}
	close(fd[0]);
	return undo->pid > 0;
}

static inline void sud_undo_now(struct sud_undo *undo)
{
	close(undo->fd);
	waitpid(undo->pid, NULL, 0);
}

/* Write a string to a file of procfs or the like; 0 or -errno. */
/*
 * Start a thread that all signals are blocked in from its first instruction on:
 * those for the process go to its other threads.
 */
static inline int sud_thread_without_signals(pthread_t *thread, void *(*fn)(void *arg), void *arg)
{
	sigset_t all, before;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(thread, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ret;
}

static inline int sud_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	int ret = 0;

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* Let @flag of the shared page become @value. */
static inline void sud_set_flag(int value)
{
	__atomic_store_n(&sud->flag, value, __ATOMIC_RELEASE);
}

/* Wait for that, without a syscall: the caller may be under trace. */
static inline void sud_await_flag(int value)
{
	while (__atomic_load_n(&sud->flag, __ATOMIC_ACQUIRE) != value)
		asm volatile("pause");
}

/* Whether a child has come to its end; it is left to be waited for. */
static inline bool sud_has_ended(pid_t pid)
{
	siginfo_t info = { };

	return !waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) &&
		info.si_pid == pid;
}

/* Wait for a child to set the flag. It does not if it has ended before. */
static inline bool sud_await_flag_of(pid_t pid, int value)
{
	while (__atomic_load_n(&sud->flag, __ATOMIC_ACQUIRE) != value) {
		if (sud_has_ended(pid))
			return false;
		sched_yield();
	}
	return true;
}

/* Wait until another task sleeps in syscall @nr. It does not if it has ended. */
static inline bool sud_await_sleep(pid_t tid, long nr)
{
	char path[64], line[32];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	do {
		sched_yield();
		fd = open(path, O_RDONLY);
		len = read(fd, line, sizeof(line) - 1);
		close(fd);
		if (len <= 0 || sud_has_ended(tid))
			return false;
		line[len] = 0;
	} while (line[0] == 'r' || atol(line) != nr);
	return true;
}

/* The mapping that holds @addr */
struct sud_map {
	unsigned long start, end, offset;
};

static inline bool sud_find_map(unsigned long addr, struct sud_map *map)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	bool found = false;
	char *line = NULL;
	size_t size = 0;

	while (maps && !found && getline(&line, &size, maps) > 0) {
		found = sscanf(line, "%lx-%lx %*s %lx", &map->start, &map->end,
			       &map->offset) == 3 &&
			map->start <= addr && addr < map->end;
	}
	free(line);
	if (maps)
		fclose(maps);
	return found;
}

static inline int sud_call_int80(const void *arg)
{
	return native_int80(IA32_NR_getppid) != getppid();
}

static inline bool sud_has_int80(void)
{
	return !sud_run(sud_call_int80, NULL);
}

/* Exit without a syscall that is not native. */
static inline void sud_exit(int code)
{
	native_syscall(__NR_exit_group, (long)code);
}

static void __attribute__((constructor)) sud_init(void)
{
	const struct rlimit no_core = { 0, 0 };
	long ret;

	ret = sud_prctl(EXCLUSIVE, 0, -1UL, NULL);
#ifdef SUD_TESTS_SYSCTL
	if (ret == -EPERM)
		ret = 0;
#endif
	if (ret) {
		ksft_print_header();
		ksft_exit_skip("%s\n", ret == -EPERM ?
			       "kernel.syscall_user_dispatch is 0" :
			       "the kernel lacks CONFIG_SYSCALL_USER_DISPATCH");
	}
	sud_prctl(OFF, 0, 0, NULL);

	setrlimit(RLIMIT_CORE, &no_core);
	sud = mmap(NULL, sizeof(*sud), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

#endif /* __SUD_H */
