/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Threads that are held between the entry of a syscall and the decision about
 * it: their selector is on a page that is missing, and whoever supplies it does
 * something else first
 */
#ifndef __SUD_HOLD_H
#define __SUD_HOLD_H

#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include "sud_ptrace.h"

static struct sud_hold {
	int uffd;
	char *selector;			/* alone on its page */
	char value;			/* that it gets */
	pid_t tid;			/* who is held */
	pthread_mutex_t lock;		/* of the page's coming and going, and of: */
	bool missing;
	void (*meanwhile)(void);	/* called once before it gets it */
} hold = { .lock = PTHREAD_MUTEX_INITIALIZER };

/*
 * Each time that the page is missing, for as long as the process lives. A thread
 * that is held and has a signal pending tries again and again, so a fault may be
 * reported that is over already. The page stays as it is then, or comes early.
 */
static inline void *sud_supply(void *arg)
{
	char *page = arg;
	struct uffdio_copy copy = {
		.dst = (unsigned long)hold.selector,
		.src = (unsigned long)page,
		.len = SUD_PAGE,
	};
	struct uffd_msg fault;

	while (read(hold.uffd, &fault, sizeof(fault)) == sizeof(fault)) {
		pthread_mutex_lock(&hold.lock);
		if (hold.missing)
			hold.meanwhile();
		hold.missing = false;
		*page = hold.value;
		ioctl(hold.uffd, UFFDIO_COPY, &copy);
		pthread_mutex_unlock(&hold.lock);
	}
	return NULL;
}

static inline bool sud_can_hold(void)
{
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC);

	close(uffd);
	return uffd >= 0;
}

#define SUD_CANNOT_HOLD	"no userfaultfd for kernel faults"

/* Let the calling thread be held in a syscall that has hold.selector read. */
static inline bool sud_hold(void (*meanwhile)(void))
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	pthread_t thread;

	hold.uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	hold.selector = sud_pages(1, PROT_READ | PROT_WRITE);
	hold.value = BLOCK;
	hold.tid = gettid();
	hold.missing = true;
	hold.meanwhile = meanwhile;
	reg.range.start = (unsigned long)hold.selector;
	reg.range.len = SUD_PAGE;
	return hold.uffd >= 0 && hold.selector &&
		!ioctl(hold.uffd, UFFDIO_API, &api) &&
		!ioctl(hold.uffd, UFFDIO_REGISTER, &reg) &&
		!sud_thread_without_signals(&thread, sud_supply,
					    sud_pages(1, PROT_READ | PROT_WRITE));
}

/* Have the page missing once more, so that hold.meanwhile is called before it is back. */
static inline bool sud_hold_again(void)
{
	bool done;

	pthread_mutex_lock(&hold.lock);
	done = !madvise(hold.selector, SUD_PAGE, MADV_DONTNEED);
	hold.missing = true;
	pthread_mutex_unlock(&hold.lock);
	return done;
}

/* How the shared flag tells a tracer and a child that is held of each other */
enum { SUD_HELD = 1, SUD_RELEASED };

static inline void sud_hold_for_tracer(void)
{
	sud_set_flag(SUD_HELD);
	sud_await_flag(SUD_RELEASED);
}

/* Until the process is killed. */
static inline void sud_hold_for_ever(void)
{
	sud_set_flag(SUD_HELD);
	pause();
}

/*
 * A child that calls @fn, where its foreign calls are dispatched, stopped in the
 * first of them by PTRACE_INTERRUPT: the dispatch is pending, and not delivered.
 * If @beside, another SIGSYS was pending before. -1 if that fails.
 */
static inline pid_t sud_held_tracee(void (*fn)(void), bool beside)
{
	int status;
	pid_t pid;

	pid = sud_fork();
	if (!pid) {
		if (sud_hold(sud_hold_for_tracer)) {
			sud_arm_foreign(hold.selector);
			fn();
		}
		sud_exit(0);
	}
	if (pid < 0 || !sud_await_flag_of(pid, SUD_HELD) ||
	    sud_ptrace(PTRACE_SEIZE, pid, 0,
		       (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)) ||
	    sud_ptrace(PTRACE_INTERRUPT, pid, 0, NULL))
		return -1;
	if (beside)
		syscall(__NR_tgkill, pid, pid, SIGSYS);
	sud_set_flag(SUD_RELEASED);
	if (waitpid(pid, &status, __WALL) != pid || status >> 16 != PTRACE_EVENT_STOP)
		return -1;
	return pid;
}

#endif /* __SUD_HOLD_H */
