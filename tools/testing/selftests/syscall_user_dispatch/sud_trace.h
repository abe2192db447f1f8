/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tracepoints of a task, in a tracing instance that belongs to the test
 */
#ifndef __SUD_TRACE_H
#define __SUD_TRACE_H

#include <sys/mount.h>
#include <sys/stat.h>

#include "sud.h"

#define SUD_TRACEFS	"/sys/kernel/tracing"

static struct sud_trace {
	struct sud_undo undo;
	char dir[64];
} trace;

static inline void sud_trace_undo(const void *arg)
{
	rmdir(trace.dir);
}

/* False if there is no tracefs for us, or it lacks @events. */
static inline bool sud_trace_begin(const char *events)
{
	char path[128];

	/* Whatever gets mounted here is gone with the test. */
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return false;
	if (access(SUD_TRACEFS "/instances", F_OK))
		mount("tracefs", SUD_TRACEFS, "tracefs", 0, NULL);
	snprintf(path, sizeof(path), SUD_TRACEFS "/events/%s", events);
	snprintf(trace.dir, sizeof(trace.dir), SUD_TRACEFS "/instances/sud-%d", getpid());
	return !access(path, F_OK) && !mkdir(trace.dir, 0700) &&
		sud_undo_later(&trace.undo, sud_trace_undo, NULL);
}

static inline void sud_trace_end(void)
{
	sud_undo_now(&trace.undo);
}

#define SUD_NO_TRACE	"no tracefs for us, or no such tracepoints"

static inline bool sud_trace_write(const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", trace.dir, file);
	return !sud_write_file(path, text);
}

/* Trace @pid and nobody else from now on, by the tracepoints of @events. */
static inline bool sud_trace_task(pid_t pid, const char *events)
{
	char file[64], text[16];

	snprintf(file, sizeof(file), "events/%s/enable", events);
	snprintf(text, sizeof(text), "%d", pid);
	return sud_trace_write("set_event_pid", text) && sud_trace_write(file, "1");
}

static inline FILE *sud_trace_open(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/trace", trace.dir);
	return fopen(path, "r");
}

/* How many lines the trace has that contain @event, and end in @fields. */
static inline int sud_trace_count(const char *event, const char *fields)
{
	FILE *file = sud_trace_open();
	char *line = NULL, *end;
	size_t size = 0;
	int count = 0;

	if (!file)
		return -1;
	while (getline(&line, &size, file) > 0) {
		line[strcspn(line, "\n")] = 0;
		end = line + strlen(line) - strlen(fields);
		count += *line != '#' && strstr(line, event) && end >= line && !strcmp(end, fields);
	}
	free(line);
	fclose(file);
	return count;
}

/* The syscalls in the trace as "(" for sys_enter and ")" for sys_exit */
static inline void sud_trace_syscalls(char *log, size_t size)
{
	FILE *file = sud_trace_open();
	char *line = NULL;
	size_t len = 0;

	memset(log, 0, size);
	while (file && size-- > 1 && getline(&line, &len, file) > 0) {
		if (strstr(line, " sys_enter: NR"))
			*log++ = '(';
		else if (strstr(line, " sys_exit: NR"))
			*log++ = ')';
		else
			size++;
	}
	free(line);
	if (file)
		fclose(file);
}

#endif /* __SUD_TRACE_H */
