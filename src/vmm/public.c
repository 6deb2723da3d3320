/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library's calls that choose: the hypervisor, and each type of device.
 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "virtio/devices.h"
#include "vmm/vmm.h"

#define PAGES_PER_MIB 256u
#define CID_HOST      2u
#define TAG_MAX	      36u

/* Tags of the balloon's statistics (virtio 1.2 §5.5.6.4). */
enum {
	STAT_SWAP_IN,
	STAT_SWAP_OUT,
	STAT_MAJOR_FAULTS,
	STAT_MINOR_FAULTS,
	STAT_FREE,
	STAT_TOTAL,
	STAT_AVAILABLE,
	STAT_CACHES,
};

int smolvm_vmm_create(struct smolvm_vmm **ret, const struct smolvm_vmm_config *config,
		      struct smolvm_error *err)
{
	return vmm_create_on(&hv_kvm, ret, config, err);
}

const char *smolvm_vmm_version(void)
{
	return SMOLVM_VMM_VERSION;
}

/* ---- devices -------------------------------------------------------------------------------- */

int smolvm_vmm_add_disk(struct smolvm_vmm *vmm, const struct smolvm_vmm_disk *disk,
			struct smolvm_error *err)
{
	struct virtio_device *d;
	int r = vmm_can_add(vmm, err);

	if (r == 0)
		r = blk_create(&d, &vmm->env, disk, err);
	return r ? r : vmm_add(vmm, d, err);
}

int smolvm_vmm_add_console(struct smolvm_vmm *vmm, const struct smolvm_vmm_console *console,
			   struct smolvm_error *err)
{
	struct virtio_device *d;
	int r = vmm_can_add(vmm, err);

	if (r == 0)
		r = console_create(&d, &vmm->env, console, err);
	return r ? r : vmm_add(vmm, d, err);
}

int smolvm_vmm_add_vsock(struct smolvm_vmm *vmm, const struct smolvm_vmm_vsock *vsock,
			 struct smolvm_error *err)
{
	struct virtio_device *d;
	int r = vmm_can_add(vmm, err);

	if (r)
		return r;
	if (vmm->vsock)
		return err_set(err, EINVAL, "a machine has one vsock device at most");
	if (vsock->cid && vsock->cid <= CID_HOST)
		return err_set(err, EINVAL, "a guest's vsock address is 3 or more, not %u",
			       vsock->cid);
	r = vsock_create(&d, &vmm->env, vsock, err);
	if (r == 0)
		r = vmm_add(vmm, d, err);
	if (r == 0)
		vmm->vsock = d;
	return r;
}

static struct device *find_tag(struct smolvm_vmm *vmm, const char *tag)
{
	for (unsigned int i = 0; i < vmm->n_devices; i++)
		if (vmm->devices[i].tag[0] && strcmp(vmm->devices[i].tag, tag) == 0)
			return &vmm->devices[i];
	return NULL;
}

int smolvm_vmm_add_fs(struct smolvm_vmm *vmm, const struct smolvm_vmm_fs *fs,
		      struct smolvm_error *err)
{
	size_t len = fs->tag ? strnlen(fs->tag, TAG_MAX + 1) : 0;
	struct virtio_device *d;
	int r = vmm_can_add(vmm, err);

	if (r)
		return r;
	if (!len || len > TAG_MAX)
		return err_set(err, EINVAL, "the tag of a shared folder has 1 to %u bytes",
			       TAG_MAX);
	if (find_tag(vmm, fs->tag))
		return err_set(err, EINVAL, "two shared folders have the tag %s", fs->tag);
	r = fs_create(&d, &vmm->env, fs, err);
	if (r == 0)
		r = vmm_add(vmm, d, err);
	if (r == 0)
		memcpy(vmm->devices[vmm->n_devices - 1].tag, fs->tag, len);
	return r;
}

int smolvm_vmm_add_net(struct smolvm_vmm *vmm, const struct smolvm_vmm_net *net,
		       struct smolvm_error *err)
{
	struct virtio_device *d;
	int r = vmm_can_add(vmm, err);

	if (r == 0)
		r = net_create(&d, &vmm->env, net, err);
	return r ? r : vmm_add(vmm, d, err);
}

int smolvm_vmm_add_rng(struct smolvm_vmm *vmm, struct smolvm_error *err)
{
	struct virtio_device *d;
	int r = vmm_can_add(vmm, err);

	if (r == 0)
		r = rng_create(&d, &vmm->env, err);
	return r ? r : vmm_add(vmm, d, err);
}

int smolvm_vmm_add_balloon(struct smolvm_vmm *vmm, struct smolvm_error *err)
{
	struct virtio_device *d;
	int r = vmm_can_add(vmm, err);

	if (r)
		return r;
	if (vmm->balloon)
		return err_set(err, EINVAL, "a machine has one balloon at most");
	r = balloon_create(&d, &vmm->env, err);
	if (r == 0)
		r = vmm_add(vmm, d, err);
	if (r == 0)
		vmm->balloon = d;
	return r;
}

/* ---- what can be asked of them -------------------------------------------------------------- */

int smolvm_vmm_fs_user(struct smolvm_vmm *vmm, const char *tag, uint32_t uid, uint32_t gid,
		       struct smolvm_error *err)
{
	struct device *d = find_tag(vmm, tag);

	if (!d)
		return err_set(err, ENOENT, "no shared folder has the tag %s", tag);
	fs_set_user(d->virtio, uid, gid);
	return 0;
}

int smolvm_vmm_vsock_connect(struct smolvm_vmm *vmm, uint32_t port, int fd, const char *greeting,
			     struct smolvm_error *err)
{
	bool ended;

	pthread_mutex_lock(&vmm->lock);
	ended = vmm->end.reason != 0;
	pthread_mutex_unlock(&vmm->lock);
	if (vmm->vsock && !ended)
		return vsock_connect(vmm->vsock, port, fd, greeting, err);
	close(fd);
	if (!vmm->vsock)
		return err_set(err, ENODEV, "the machine has no vsock");
	return err_set(err, ESRCH, "the machine has ended");
}

int smolvm_vmm_balloon(struct smolvm_vmm *vmm, unsigned int mib, struct smolvm_error *err)
{
	if (!vmm->balloon)
		return err_set(err, ENODEV, "the machine has no balloon");
	if (mib >= vmm->config.memory_mib)
		return err_set(err, EINVAL, "the guest has %u MiB and cannot give up %u",
			       vmm->config.memory_mib, mib);
	balloon_set(vmm->balloon, mib * PAGES_PER_MIB);
	return 0;
}

int smolvm_vmm_memory(struct smolvm_vmm *vmm, struct smolvm_vmm_memory *ret,
		      struct smolvm_error *err)
{
	uint64_t stats[BALLOON_STATS];

	if (!vmm->balloon)
		return err_set(err, ENODEV, "the machine has no balloon");
	balloon_stats(vmm->balloon, stats);
	*ret = (struct smolvm_vmm_memory){
		.total_bytes = stats[STAT_TOTAL],
		.free_bytes = stats[STAT_FREE],
		.available_bytes = stats[STAT_AVAILABLE],
		.cached_bytes = stats[STAT_CACHES],
		.swapped_in_bytes = stats[STAT_SWAP_IN],
		.swapped_out_bytes = stats[STAT_SWAP_OUT],
		.major_faults = stats[STAT_MAJOR_FAULTS],
		.minor_faults = stats[STAT_MINOR_FAULTS],
	};
	return 0;
}
