// SPDX-License-Identifier: GPL-2.0

#ifdef CONFIG_SYSCALL_USER_DISPATCH_RUST

#include <linux/syscall_user_dispatch.h>

#ifndef arch_syscall_is_uprobe_trampoline
__rust_helper bool rust_helper_arch_syscall_is_uprobe_trampoline(struct pt_regs *regs)
{
	return arch_syscall_is_uprobe_trampoline(regs);
}
#endif

#endif /* CONFIG_SYSCALL_USER_DISPATCH_RUST */
