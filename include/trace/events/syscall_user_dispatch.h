/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM syscall_user_dispatch

#if !defined(_TRACE_SYSCALL_USER_DISPATCH_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_SYSCALL_USER_DISPATCH_H

#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/tracepoint.h>
#include <asm/syscall.h>
#include <uapi/linux/audit.h>
#include <uapi/linux/prctl.h>

/* A thread was armed, armed anew or disarmed, by itself or by its tracer */
TRACE_EVENT(sud_configure,

	TP_PROTO(struct task_struct *task, unsigned long mode, unsigned long offset,
		 unsigned long len, unsigned long selector),

	TP_ARGS(task, mode, offset, len, selector),

	TP_STRUCT__entry(
		__field(pid_t,		pid)
		__field(unsigned long,	mode)
		__field(unsigned long,	offset)
		__field(unsigned long,	len)
		__field(unsigned long,	selector)
	),

	TP_fast_assign(
		__entry->pid		= task->pid;
		__entry->mode		= mode;
		__entry->offset		= offset;
		__entry->len		= len;
		__entry->selector	= selector;
	),

	TP_printk("pid=%d mode=%s offset=0x%lx len=0x%lx selector=0x%lx",
		  __entry->pid,
		  __print_symbolic(__entry->mode,
				   { PR_SYS_DISPATCH_OFF,	   "off" },
				   { PR_SYS_DISPATCH_EXCLUSIVE_ON, "exclusive" },
				   { PR_SYS_DISPATCH_INCLUSIVE_ON, "inclusive" }),
		  __entry->offset, __entry->len, __entry->selector)
);

/* A syscall is handed back to the current thread as SIGSYS */
TRACE_EVENT(sud_dispatch,

	TP_PROTO(struct pt_regs *regs),

	TP_ARGS(regs),

	TP_STRUCT__entry(
		__field(unsigned long,	address)
		__field(int,		nr)
		__field(unsigned int,	arch)
	),

	TP_fast_assign(
		__entry->address	= instruction_pointer(regs);
		__entry->nr		= syscall_get_nr(current, regs);
		__entry->arch		= syscall_get_arch(current);
	),

	TP_printk("address=0x%lx nr=%d arch=%s", __entry->address, __entry->nr,
		  __print_symbolic(__entry->arch,
				   { AUDIT_ARCH_X86_64, "x86_64" },
				   { AUDIT_ARCH_I386,	"i386" }))
);

/* The current thread is killed over its selector: its value, or why it has none */
TRACE_EVENT(sud_kill,

	TP_PROTO(struct pt_regs *regs, const char __user *selector, int reading),

	TP_ARGS(regs, selector, reading),

	TP_STRUCT__entry(
		__field(unsigned long,	address)
		__field(unsigned long,	selector)
		__field(int,		reading)
	),

	TP_fast_assign(
		__entry->address	= instruction_pointer(regs);
		__entry->selector	= (unsigned long)selector;
		__entry->reading	= reading;
	),

	TP_printk("address=0x%lx selector=0x%lx reading=%d",
		  __entry->address, __entry->selector, __entry->reading)
);

#endif /* _TRACE_SYSCALL_USER_DISPATCH_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
