/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tracer's part of the Syscall User Dispatch tests
 */
#ifndef __SUD_PTRACE_H
#define __SUD_PTRACE_H

#include <sys/ptrace.h>
#include <sys/user.h>

#include "sud.h"

#ifndef PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG
# define PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG	0x4210
# define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG	0x4211
#endif

/* Registers in struct user_regs_struct, */
#ifdef __x86_64__
# define R_AX		rax
# define R_ORIG_AX	orig_rax
# define R_IP		rip
#else
# define R_AX		eax
# define R_ORIG_AX	orig_eax
# define R_IP		eip
#endif

/* and where PTRACE_PEEKUSER finds them */
#define USER_AX		offsetof(struct user, regs.R_AX)
#define USER_ORIG_AX	offsetof(struct user, regs.R_ORIG_AX)
#define USER_IP		offsetof(struct user, regs.R_IP)

struct sud_config {
	__u64 mode;
	__u64 selector;
	__u64 offset;
	__u64 len;
};

static inline long sud_ptrace(long request, pid_t pid, unsigned long addr,
			      const void *data)
{
	return native_syscall(__NR_ptrace, request, (long)pid, addr, data);
}

static inline long sud_get_config(pid_t pid, struct sud_config *config)
{
	return sud_ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, pid,
			  sizeof(*config), config);
}

static inline long sud_set_config(pid_t pid, const struct sud_config *config)
{
	return sud_ptrace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, pid,
			  sizeof(*config), config);
}

/* What sud_arm_foreign() arms, for use by a tracer */
static inline struct sud_config sud_foreign_config(const void *selector)
{
	return (struct sud_config) {
		.mode = INCLUSIVE,
		.offset = (unsigned long)foreign_begin,
		.len = foreign_end - foreign_begin,
		.selector = (unsigned long)selector,
	};
}

/* A tracee with one dispatched and one permitted syscall */
static inline void sud_dispatch_and_call(void)
{
	foreign_syscall(__NR_getppid);
	native_syscall(__NR_getppid);
}

/*
 * Start a tracee that will call @fn; it waits to be resumed. The only syscalls
 * after that are those which @fn makes, and exit_group.
 */
static inline pid_t sud_tracee(void (*fn)(void))
{
	int status;
	pid_t pid;

	pid = sud_fork();
	if (!pid) {
		sud_ptrace(PTRACE_TRACEME, 0, 0, NULL);
		kill(getpid(), SIGSTOP);
		fn();
		sud_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return -1;
	sud_ptrace(PTRACE_SETOPTIONS, pid, 0,
		   (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
	return pid;
}

static inline pid_t sud_kill_tracee(pid_t pid)
{
	kill(pid, SIGKILL);
	return waitpid(pid, NULL, __WALL);
}

/* The wait status after @pid was resumed and has stopped again, or died. */
static inline int sud_resume(pid_t pid, long request, long sig)
{
	int status;

	if (sud_ptrace(request, pid, 0, (void *)sig) ||
	    waitpid(pid, &status, __WALL) != pid)
		return -1;
	return status;
}

static inline int sud_syscall_op(pid_t pid)
{
	struct __ptrace_syscall_info info = { .op = 0xff };

	sud_ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info);
	return info.op;
}

/* One letter for the stop that @status tells of. */
static inline char sud_stop(pid_t pid, int status)
{
	if (!WIFSTOPPED(status))
		return 0;
	switch (status >> 8) {
	case SIGSYS:
		return 'S';
	case SIGTRAP:
		return 'T';
	case SIGTRAP | PTRACE_EVENT_SECCOMP << 8:
		return 'C';
	case SIGTRAP | 0x80:
		switch (sud_syscall_op(pid)) {
		case PTRACE_SYSCALL_INFO_ENTRY:
			return '(';
		case PTRACE_SYSCALL_INFO_EXIT:
			return ')';
		}
	}
	return '?';
}

/* What stands behind the SIGSYS of a stop, or 0 if it is another stop. */
static inline int sud_sigsys_code(pid_t pid, int status)
{
	siginfo_t info;

	if (sud_stop(pid, status) != 'S' || sud_ptrace(PTRACE_GETSIGINFO, pid, 0, &info))
		return 0;
	return info.si_code;
}

/*
 * Resume a tracee until it dies, delivering every SIGSYS, and write down the
 * stops it makes: a syscall that was traced as it should be gives "()".
 */
static inline int sud_log_stops(pid_t pid, long request, long sig, char *log,
				size_t size)
{
	int status;

	memset(log, 0, size);
	do {
		status = sud_resume(pid, request, sig);
		*log = sud_stop(pid, status);
		sig = *log == 'S' ? SIGSYS : 0;
		log++;
	} while (WIFSTOPPED(status) && --size > 1);

	if (WIFSTOPPED(status))
		sud_kill_tracee(pid);
	return status;
}

#endif /* __SUD_PTRACE_H */
