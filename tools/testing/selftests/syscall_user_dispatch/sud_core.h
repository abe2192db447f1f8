/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Core dumps of the Syscall User Dispatch tests, in a directory of their own
 *
 * While a test runs, nobody else on the system has core dumps.
 */
#ifndef __SUD_CORE_H
#define __SUD_CORE_H

#include <linux/elf.h>

#include "sud.h"

#ifdef __x86_64__
# define SUD_ELF(what)	elf64_##what
#else
# define SUD_ELF(what)	elf32_##what
#endif

#define SUD_CORE_PATTERN	"/proc/sys/kernel/core_pattern"

static struct sud_cores {
	struct sud_undo undo;
	char dir[32];
	char before[256];
} cores = { .dir = "/tmp/sud-XXXXXX" };

static inline char *sud_core_path(char *path, size_t size, const char *pid)
{
	snprintf(path, size, "%s/core.%s", cores.dir, pid);
	return path;
}

static inline void sud_cores_undo(const void *arg)
{
	char command[64];

	sud_write_file(SUD_CORE_PATTERN, cores.before);
	snprintf(command, sizeof(command), "rm -r %s", cores.dir);
	system(command);
}

/* False if the kernel writes none, or not for us. */
static inline bool sud_cores_begin(void)
{
	char path[64];
	int fd;

	fd = open(SUD_CORE_PATTERN, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	read(fd, cores.before, sizeof(cores.before) - 1);
	close(fd);

	return mkdtemp(cores.dir) && sud_undo_later(&cores.undo, sud_cores_undo, NULL) &&
		!sud_write_file(SUD_CORE_PATTERN, sud_core_path(path, sizeof(path), "%p"));
}

static inline void sud_cores_end(void)
{
	sud_undo_now(&cores.undo);
}

#define SUD_NO_CORES	"the kernel lacks CONFIG_COREDUMP, or needs root"

/* For the calling process and its children */
static inline void sud_cores_allow(void)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_CORE, &all);
}

/* What the core of @pid has to say about the signal. The core is removed. */
static inline bool sud_core_siginfo(pid_t pid, siginfo_t *info)
{
	struct SUD_ELF(hdr) header = { };
	struct SUD_ELF(phdr) segment;
	struct SUD_ELF(note) note;
	char path[64], number[16];
	bool found = false;
	off_t at, end;
	int fd, i;

	snprintf(number, sizeof(number), "%d", pid);
	fd = open(sud_core_path(path, sizeof(path), number), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	unlink(path);
	pread(fd, &header, sizeof(header), 0);
	for (i = 0; i < header.e_phnum && !found; i++) {
		at = header.e_phoff + i * sizeof(segment);
		if (pread(fd, &segment, sizeof(segment), at) != sizeof(segment))
			break;
		if (segment.p_type != PT_NOTE)
			continue;
		at = segment.p_offset;
		end = at + segment.p_filesz;
		while (at < end && !found && pread(fd, &note, sizeof(note), at) == sizeof(note)) {
			at += sizeof(note) + ((note.n_namesz + 3) & ~3);
			found = note.n_type == NT_SIGINFO &&
				pread(fd, info, sizeof(*info), at) == sizeof(*info);
			at += (note.n_descsz + 3) & ~3;
		}
	}
	close(fd);
	return found;
}

/* Whether it is over the dispatch of a foreign getppid(). */
static inline bool sud_core_names_dispatch(pid_t pid)
{
	siginfo_t info;

	return sud_core_siginfo(pid, &info) && info.si_signo == SIGSYS &&
		info.si_code == SYS_USER_DISPATCH && info.si_syscall == __NR_getppid &&
		info.si_call_addr == foreign_syscall_ip;
}

#endif /* __SUD_CORE_H */
