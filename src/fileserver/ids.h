/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owners: what the host's numbers are in the guest, and the other way round.
 */
#ifndef FILESERVER_IDS_H
#define FILESERVER_IDS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/**
 * struct ids - who serves, and for whom.
 * @privileged: numbers are the same on both sides.
 * @uid, @gid:  this process's effective ones.
 * @guest_uid, @guest_gid: what they are in the guest.
 */
struct ids {
	bool privileged;
	uid_t uid, guest_uid;
	gid_t gid, guest_gid;
};

/** ids_init() - look at this process's user and capabilities; the guest's user is the same. */
void ids_init(struct ids *ids);

/** ids_show() - the owner of a file as the guest shall see it. */
void ids_show(const struct ids *ids, const struct stat *st, uint32_t *ret_uid, uint32_t *ret_gid);

/**
 * ids_take() - the owner that the guest asks for, in the host's numbers.
 * @uid, @gid: in and out; (uid_t)-1 leaves it alone.
 *
 * Return: 0, or -EPERM for a number that stands for nobody here.
 */
int ids_take(const struct ids *ids, uid_t *uid, gid_t *gid);

#endif
