// SPDX-License-Identifier: GPL-2.0
/*
 * What each implementation of Syscall User Dispatch needs in C: whether an
 * address is one of user space, the sysctl that allows arming, the tracepoints
 */
#include <linux/cache.h>
#include <linux/init.h>
#include <linux/syscall_user_dispatch.h>
#include <linux/sysctl.h>
#include <linux/uaccess.h>

#define CREATE_TRACE_POINTS
#ifdef CONFIG_SYSCALL_USER_DISPATCH_RUST
#define CREATE_RUST_TRACE_POINTS
#endif
#include <trace/events/syscall_user_dispatch.h>

/*
 * Whether a selector may be at an address, which need not be mapped. A request
 * with 32-bit words (@word32) is validated as on a 32-bit kernel.
 */
bool syscall_user_dispatch_is_user(unsigned long selector, bool word32)
{
	if (word32 && selector >= ARCH_SYSCALL_32BIT_USER_END)
		return false;

	/*
	 * access_ok() will clear memory tags for tagged addresses
	 * if current has memory tagging enabled.
	 *
	 * To enable a tracer to set a tracees selector the
	 * selector address must be untagged for access_ok(),
	 * otherwise an untagged tracer will always fail to set a
	 * tagged tracees selector.
	 */
	return access_ok(untagged_addr((char __user *)selector), sizeof(char));
}

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
