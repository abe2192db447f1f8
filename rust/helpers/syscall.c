// SPDX-License-Identifier: GPL-2.0

#ifdef CONFIG_SYSCALL_USER_DISPATCH_RUST

#include <linux/uprobes.h>
#include <asm/syscall.h>

__rust_helper int rust_helper_syscall_get_arch(struct task_struct *task)
{
	return syscall_get_arch(task);
}

__rust_helper bool rust_helper_in_ia32_syscall(void)
{
	return in_ia32_syscall();
}

/* Rust does not know where the field is, see task.rs of the user. */
__rust_helper struct syscall_user_dispatch *
rust_helper_task_syscall_dispatch(struct task_struct *task)
{
	return &task->syscall_dispatch;
}

#ifndef CONFIG_UPROBES
__rust_helper bool rust_helper_arch_syscall_is_uprobe_trampoline(struct pt_regs *regs)
{
	return arch_syscall_is_uprobe_trampoline(regs);
}
#endif

#endif /* CONFIG_SYSCALL_USER_DISPATCH_RUST */
