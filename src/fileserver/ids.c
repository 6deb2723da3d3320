/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owners: what the host's numbers are in the guest, and the other way round.
 */
#include "fileserver/ids.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What it takes to make files in another user's name and to work on them afterwards. */
#define CAPS_NEEDED                                                                                \
	(1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER | 1u << CAP_FSETID)

void ids_init(struct ids *ids)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	ids->uid = ids->guest_uid = geteuid();
	ids->gid = ids->guest_gid = getegid();
	ids->privileged = syscall(SYS_capget, &head, data) == 0 &&
			  (data[0].effective & CAPS_NEEDED) == CAPS_NEEDED;
}

void ids_show(const struct ids *ids, const struct stat *st, uint32_t *ret_uid, uint32_t *ret_gid)
{
	bool same = ids->privileged;

	*ret_uid = !same && st->st_uid == ids->uid ? ids->guest_uid : st->st_uid;
	*ret_gid = !same && st->st_gid == ids->gid ? ids->guest_gid : st->st_gid;
}

int ids_take(const struct ids *ids, uid_t *uid, gid_t *gid)
{
	if (ids->privileged)
		return 0;
	if (*uid == ids->guest_uid)
		*uid = ids->uid;
	else if (*uid == ids->uid)
		return -EPERM;
	if (*gid == ids->guest_gid)
		*gid = ids->gid;
	else if (*gid == ids->gid)
		return -EPERM;
	return 0;
}
