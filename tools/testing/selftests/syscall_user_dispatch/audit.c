// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: which syscalls leave audit records
 *
 * This is a program of its own, to be run last: once auditing has been on, the
 * kernel looks after the syscalls of all new tasks until it is booted again.
 */
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include "sud.h"

struct request {
	struct nlmsghdr header;
	union {
		struct audit_status status;
		struct audit_rule_data rule;
	};
};

struct message {
	struct nlmsghdr header;
	char data[AUDIT_MESSAGE_TEXT_MAX];
};

/* 0, with the status in @request if that was asked for, or -errno. */
static int audit_request(int type, struct request *request, size_t size)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	bool wait_for_ack = true, wait_for_status = type == AUDIT_GET;
	struct message answer;
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

static int set_enabled(unsigned int enabled)
{
	struct request request = {
		.status.mask = AUDIT_STATUS_ENABLED,
		.status.enabled = enabled,
	};

	return audit_request(AUDIT_SET, &request, sizeof(request.status));
}

/* Have a record made of each syscall of @pid. */
static int set_rule(int type, pid_t pid)
{
	struct request request = {
		.rule.flags = AUDIT_FILTER_EXIT,
		.rule.action = AUDIT_ALWAYS,
		.rule.field_count = 1,
		.rule.fields[0] = AUDIT_PID,
		.rule.values[0] = pid,
		.rule.fieldflags[0] = AUDIT_EQUAL,
	};

	memset(request.rule.mask, 0xff, sizeof(request.rule.mask));
	return audit_request(type, &request, sizeof(request.rule));
}

FIXTURE(audit) {
	struct sud_undo enabled, rule;
	int records;
	pid_t pid;
};

static void restore_enabled(const void *before)
{
	set_enabled(*(const unsigned int *)before);
}

static void remove_rule(const void *pid)
{
	set_rule(AUDIT_DEL_RULE, *(const pid_t *)pid);
}

FIXTURE_SETUP(audit)
{
	const struct sockaddr_nl listener = {
		.nl_family = AF_NETLINK,
		.nl_groups = 1 << (AUDIT_NLGRP_READLOG - 1),
	};
	struct request before = { };

	if (audit_request(AUDIT_GET, &before, 0))
		SKIP(return, "no audit, or no privilege");
	self->records = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);
	ASSERT_EQ(0, bind(self->records, (const struct sockaddr *)&listener, sizeof(listener)));

	/* Only tasks that are born under audit are looked after. */
	ASSERT_TRUE(sud_undo_later(&self->enabled, restore_enabled, &before.status.enabled));
	ASSERT_EQ(0, set_enabled(1));
	ASSERT_EQ(0, sud_handle(NULL));
	self->pid = sud_tracee(sud_dispatch_and_call);
	ASSERT_LT(0, self->pid);
	ASSERT_TRUE(sud_undo_later(&self->rule, remove_rule, &self->pid));
	ASSERT_EQ(0, set_rule(AUDIT_ADD_RULE, self->pid));
}

FIXTURE_TEARDOWN(audit)
{
	sud_kill_tracee(self->pid);
	sud_undo_now(&self->rule);
	sud_undo_now(&self->enabled);
}

/* The number of the next syscall on record, or -1. */
static int next_record(int records, pid_t pid)
{
	struct pollfd readable = { .fd = records, .events = POLLIN };
	struct message message;
	int nr, record_pid;
	const char *text;
	ssize_t len;

	while (poll(&readable, 1, 10000) == 1) {
		len = recv(records, &message, sizeof(message) - 1, 0);
		if (len < 0)
			return -1;
		((char *)&message)[len] = 0;
		if (message.header.nlmsg_type != AUDIT_SYSCALL)
			continue;
		text = strstr(message.data, " syscall=");
		if (!text || sscanf(text, " syscall=%d", &nr) != 1)
			continue;
		text = strstr(text, " pid=");
		if (text && sscanf(text, " pid=%d", &record_pid) == 1 && record_pid == pid)
			return nr;
	}
	return -1;
}

TEST_F(audit, has_no_record_of_a_dispatched_syscall)
{
	const struct sud_config config = sud_foreign_config(NULL);

	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	ASSERT_EQ('S', sud_stop(self->pid, sud_resume(self->pid, PTRACE_CONT, 0)));
	EXPECT_EQ(0, sud_resume(self->pid, PTRACE_CONT, SIGSYS));
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(__NR_rt_sigreturn, next_record(self->records, self->pid));
	EXPECT_EQ(__NR_getppid, next_record(self->records, self->pid));
	EXPECT_EQ(__NR_exit_group, next_record(self->records, self->pid));
}

TEST_F(audit, has_records_of_permitted_syscalls)
{
	const struct sud_config config = sud_foreign_config(&sud->selector);

	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	EXPECT_EQ(0, sud_resume(self->pid, PTRACE_CONT, 0));
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(__NR_getppid, next_record(self->records, self->pid));
	EXPECT_EQ(__NR_getppid, next_record(self->records, self->pid));
	EXPECT_EQ(__NR_exit_group, next_record(self->records, self->pid));
}

TEST_HARNESS_MAIN
