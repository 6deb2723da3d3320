/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making each device; what they are and who owns what is said in smolvm/vmm.h.
 *
 * Every create: the device, whose ops->destroy() frees it, in *@ret; 0 or -errno with @err; the
 * descriptors in the config are taken over on success.
 */
#ifndef VIRTIO_DEVICES_H
#define VIRTIO_DEVICES_H

#include "virtio/device.h"

int blk_create(struct virtio_device **ret, struct virtio_env *env,
	       const struct smolvm_vmm_disk *config, struct smolvm_error *err);
int console_create(struct virtio_device **ret, struct virtio_env *env,
		   const struct smolvm_vmm_console *config, struct smolvm_error *err);
int vsock_create(struct virtio_device **ret, struct virtio_env *env,
		 const struct smolvm_vmm_vsock *config, struct smolvm_error *err);
int fs_create(struct virtio_device **ret, struct virtio_env *env,
	      const struct smolvm_vmm_fs *config, struct smolvm_error *err);
int net_create(struct virtio_device **ret, struct virtio_env *env,
	       const struct smolvm_vmm_net *config, struct smolvm_error *err);
int rng_create(struct virtio_device **ret, struct virtio_env *env, struct smolvm_error *err);
int balloon_create(struct virtio_device **ret, struct virtio_env *env, struct smolvm_error *err);

/** vsock_connect() - see smolvm_vmm_vsock_connect(). Any thread. */
int vsock_connect(struct virtio_device *d, uint32_t port, int fd, const char *greeting,
		  struct smolvm_error *err);

/** fs_set_user() - see smolvm_vmm_fs_user(). Any thread, without the lock. */
void fs_set_user(struct virtio_device *d, uint32_t uid, uint32_t gid);

/** balloon_set() - the guest is to give up @pages of 4 KiB. Any thread, without the lock. */
void balloon_set(struct virtio_device *d, uint32_t pages);

#define BALLOON_STATS 16

/**
 * balloon_stats() - what the guest said last of its memory, by tag (virtio 1.2 §5.5.6.4: 4 free, 5
 * all of it, 6 available, in bytes, ...); UINT64_MAX: not said. Asks the guest for newer figures,
 * which the next call gives. Any thread, without the lock.
 */
void balloon_stats(struct virtio_device *d, uint64_t ret[BALLOON_STATS]);

#endif
