// SPDX-License-Identifier: GPL-2.0
/*
 * kernel.syscall_user_dispatch: whether threads may arm Syscall User Dispatch
 */
#include <linux/cache.h>
#include <linux/init.h>
#include <linux/syscall_user_dispatch.h>
#include <linux/sysctl.h>

bool syscall_user_dispatch_allowed __read_mostly = true;

#ifdef CONFIG_SYSCTL
static const struct ctl_table syscall_user_dispatch_sysctls[] = {
	{
		.procname	= "syscall_user_dispatch",
		.data		= &syscall_user_dispatch_allowed,
		.maxlen		= sizeof(syscall_user_dispatch_allowed),
		.mode		= 0644,
		.proc_handler	= proc_dobool,
	},
};

static int __init syscall_user_dispatch_sysctl_init(void)
{
	register_sysctl_init("kernel", syscall_user_dispatch_sysctls);
	return 0;
}
late_initcall(syscall_user_dispatch_sysctl_init);
#endif /* CONFIG_SYSCTL */
