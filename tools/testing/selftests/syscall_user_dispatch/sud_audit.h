/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The audit records of a task's syscalls
 *
 * Auditing cannot be undone entirely: once it has been on, the kernel looks
 * after the syscalls of all new tasks until it is booted again. Programs that
 * use this are to be run last.
 */
#ifndef __SUD_AUDIT_H
#define __SUD_AUDIT_H

#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include "sud.h"

struct sud_audit_request {
	struct nlmsghdr header;
	union {
		struct audit_status status;
		struct audit_rule_data rule;
		char text[64];
	};
};

struct sud_audit_message {
	struct nlmsghdr header;
	char data[AUDIT_MESSAGE_TEXT_MAX];
};

/* 0, with the status in @request if that was asked for, or -errno. */
static inline int sud_audit_request(int type, struct sud_audit_request *request,
				    size_t size)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	bool wait_for_ack = true, wait_for_status = type == AUDIT_GET;
	struct sud_audit_message answer;
	int ret = 0;
	int fd;

	request->header = (struct nlmsghdr) {
		.nlmsg_len = NLMSG_LENGTH(size),
		.nlmsg_type = type,
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
	};
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);
	if (sendto(fd, request, request->header.nlmsg_len, 0,
		   (const struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		ret = -errno;
	while (!ret && (wait_for_ack || wait_for_status)) {
		if (recv(fd, &answer, sizeof(answer), 0) < 0) {
			ret = -errno;
		} else if (answer.header.nlmsg_type == NLMSG_ERROR) {
			ret = ((struct nlmsgerr *)answer.data)->error;
			wait_for_ack = false;
		} else if (answer.header.nlmsg_type == AUDIT_GET) {
			memcpy(&request->status, answer.data, sizeof(request->status));
			wait_for_status = false;
		}
	}
	close(fd);
	return ret;
}

static inline int sud_audit_enable(unsigned int enabled)
{
	struct sud_audit_request request = {
		.status.mask = AUDIT_STATUS_ENABLED,
		.status.enabled = enabled,
	};

	return sud_audit_request(AUDIT_SET, &request, sizeof(request.status));
}

/* Have a record made of each syscall of @pid. */
static inline int sud_audit_rule(int type, pid_t pid)
{
	struct sud_audit_request request = {
		.rule.flags = AUDIT_FILTER_EXIT,
		.rule.action = AUDIT_ALWAYS,
		.rule.field_count = 1,
		.rule.fields[0] = AUDIT_PID,
		.rule.values[0] = pid,
		.rule.fieldflags[0] = AUDIT_EQUAL,
	};

	memset(request.rule.mask, 0xff, sizeof(request.rule.mask));
	return sud_audit_request(type, &request, sizeof(request.rule));
}

static struct sud_audit {
	struct sud_undo enabled, rule;
	unsigned int before;
	int records;
	pid_t pid;
} audit;

static inline void sud_audit_undo_enable(const void *arg)
{
	sud_audit_enable(audit.before);
}

static inline void sud_audit_undo_rule(const void *arg)
{
	sud_audit_rule(AUDIT_DEL_RULE, audit.pid);
}

/* Only tasks that are born after this can be looked after. */
static inline bool sud_audit_begin(void)
{
	const struct sockaddr_nl listener = {
		.nl_family = AF_NETLINK,
		.nl_groups = 1 << (AUDIT_NLGRP_READLOG - 1),
	};
	struct sud_audit_request request = { };

	if (sud_audit_request(AUDIT_GET, &request, 0))
		return false;
	audit.before = request.status.enabled;
	audit.records = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);
	return !bind(audit.records, (const struct sockaddr *)&listener, sizeof(listener)) &&
		sud_undo_later(&audit.enabled, sud_audit_undo_enable, NULL) &&
		!sud_audit_enable(1);
}

#define SUD_NO_AUDIT	"no audit, or no privilege"

/* Have a record made of each syscall of @pid from now on. */
static inline bool sud_audit_task(pid_t pid)
{
	audit.pid = pid;
	return sud_undo_later(&audit.rule, sud_audit_undo_rule, NULL) &&
		!sud_audit_rule(AUDIT_ADD_RULE, pid);
}

static inline void sud_audit_end(void)
{
	sud_undo_now(&audit.rule);
	sud_undo_now(&audit.enabled);
}

/* A record that closes the list of those that were made before */
#define SUD_AUDIT_MARK	"that was all of syscall_user_dispatch"

static inline int sud_audit_mark(void)
{
	struct sud_audit_request request = { .text = SUD_AUDIT_MARK };

	return sud_audit_request(AUDIT_USER, &request, sizeof(SUD_AUDIT_MARK));
}

/* The number of the next syscall on record, or -1 at the mark. */
static inline int sud_audit_next(void)
{
	struct pollfd readable = { .fd = audit.records, .events = POLLIN };
	struct sud_audit_message message;
	const char *text;
	ssize_t len;
	int nr, pid;

	while (poll(&readable, 1, 10000) == 1) {
		len = recv(audit.records, &message, sizeof(message) - 1, 0);
		if (len < 0)
			return -2;
		((char *)&message)[len] = 0;
		if (message.header.nlmsg_type == AUDIT_USER && strstr(message.data, SUD_AUDIT_MARK))
			return -1;
		if (message.header.nlmsg_type != AUDIT_SYSCALL)
			continue;
		text = strstr(message.data, " syscall=");
		if (!text || sscanf(text, " syscall=%d", &nr) != 1)
			continue;
		text = strstr(text, " pid=");
		if (text && sscanf(text, " pid=%d", &pid) == 1 && pid == audit.pid)
			return nr;
	}
	return -2;
}

#endif /* __SUD_AUDIT_H */
