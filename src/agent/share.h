/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared folders: FUSE mounts whose requests travel to the host over streams, or virtio-fs devices.
 */
#ifndef AGENT_SHARE_H
#define AGENT_SHARE_H

#include "agent/agent.h"
#include "agent/setup.h"

/**
 * struct share_mounts - what to mount, in order.
 * @fs_shares:      bit n: share number n is a virtio-fs device.
 * @uid, @gid:      who owns shared files in the guest, told to the host.
 * @then_read_only: make the root file system read-only when all are mounted.
 */
struct share_mounts {
	const struct share_spec *shares;
	size_t n;
	uint64_t fs_shares;
	uint32_t uid, gid;
	bool then_read_only;
};

/**
 * share_mount_all() - mount shared folders, without blocking.
 * @m:    what it points to stays valid until @done is called.
 * @done: called once, later: 0 or -errno.
 *
 * Return: 0, or -errno and @done is not called.
 */
int share_mount_all(struct agent *a, const struct share_mounts *m, setup_done_fn *done, void *ctx,
		    struct smolvm_error *err);

#endif
