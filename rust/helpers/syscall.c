// SPDX-License-Identifier: GPL-2.0

#ifdef CONFIG_SYSCALL_USER_DISPATCH_RUST

#include <linux/syscall_user_dispatch.h>
#include <asm/syscall.h>

__rust_helper int rust_helper_syscall_get_nr(struct task_struct *task, struct pt_regs *regs)
{
	return syscall_get_nr(task, regs);
}

__rust_helper int rust_helper_syscall_get_arch(struct task_struct *task)
{
	return syscall_get_arch(task);
}

__rust_helper void rust_helper_syscall_rollback(struct task_struct *task, struct pt_regs *regs)
{
	syscall_rollback(task, regs);
}

#ifndef arch_syscall_is_uprobe_trampoline
__rust_helper bool rust_helper_arch_syscall_is_uprobe_trampoline(struct pt_regs *regs)
{
	return arch_syscall_is_uprobe_trampoline(regs);
}
#endif

#endif /* CONFIG_SYSCALL_USER_DISPATCH_RUST */
