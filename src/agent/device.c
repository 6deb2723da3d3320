/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which device a path is on. In a file of its own: where the C library has no statx(), the kernel's
 * header for it does not go together with <sys/stat.h>.
 */
#include "agent/device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef AT_STATX_DONT_SYNC
#define AT_STATX_DONT_SYNC 0x4000
#endif

int device_of(const char *path, unsigned int *ret_major, unsigned int *ret_minor)
{
	struct statx st;

	if (syscall(SYS_statx, AT_FDCWD, path, AT_STATX_DONT_SYNC, 0, &st) < 0)
		return -errno;
	*ret_major = st.stx_dev_major;
	*ret_minor = st.stx_dev_minor;
	return 0;
}
