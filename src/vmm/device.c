/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's place in the machine: its registers on the bus, its interrupt line, and the eventfds
 * that spare both of them a way through this process, where the hypervisor has such.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "vmm/vmm.h"

static void access_registers(void *ctx, const struct bus_access *a)
{
	struct device *d = ctx;

	if (!a->write) {
		virtio_mmio_read(&d->mmio, a->offset, a->data, a->size);
		return;
	}
	virtio_mmio_write(&d->mmio, a->offset, a->data, a->size);
	if (!__atomic_load_n(&d->vmm->timeline.driver, __ATOMIC_RELAXED) &&
	    __atomic_load_n(&d->mmio.driver_seen, __ATOMIC_RELAXED))
		vmm_stamp(&d->vmm->timeline.driver);
}

static void raise_irq(void *ctx)
{
	struct device *d = ctx;
	uint64_t one = 1;

	if (d->irq_fd < 0)
		d->vmm->ops->irq(d->vmm->hv, d->gsi);
	else if (write(d->irq_fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: it has been raised */
}

int vmm_can_add(struct smolvm_vmm *vmm, struct smolvm_error *err)
{
	if (vmm->tried_start)
		return err_set(err, EBUSY,
			       "a device cannot be added: the machine has been started");
	if (vmm->n_devices == SMOLVM_VMM_DEVICES_MAX)
		return err_set(err, ENOSPC, "a machine has at most %u devices",
			       SMOLVM_VMM_DEVICES_MAX);
	return 0;
}

int vmm_add(struct smolvm_vmm *vmm, struct virtio_device *virtio, struct smolvm_error *err)
{
	unsigned int index = vmm->n_devices;
	struct device *d = &vmm->devices[index];
	struct bus_range range = {
		.base = arch_layout.mmio_base + (uint64_t)index * VIRTIO_MMIO_BYTES,
		.bytes = VIRTIO_MMIO_BYTES,
		.access = access_registers,
		.ctx = d,
	};
	int r = vmm_can_add(vmm, err);

	if (r) {
		virtio->ops->destroy(virtio);
		return r;
	}
	*d = (struct device){ .vmm = vmm, .virtio = virtio, .gsi = arch_irq(index), .irq_fd = -1 };
	virtio->raise = raise_irq;
	virtio->raise_ctx = d;
	r = virtio_mmio_init(&d->mmio, virtio);
	if (r == 0) {
		r = bus_add(&vmm->mmio, &range);
		if (r)
			virtio_mmio_fini(&d->mmio);
	}
	if (r) {
		err_set(err, -r, "cannot add a %s device: %s", virtio->ops->name, strerror(-r));
		virtio->ops->destroy(virtio);
		return r;
	}
	vmm->n_devices++;
	return 0;
}

static int connect_irq(struct device *d, struct smolvm_error *err)
{
	AUTO_FD fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int r;

	if (fd < 0)
		return err_sys(err, "cannot make an eventfd");
	r = d->vmm->ops->irq_fd(d->vmm->hv, d->gsi, fd);
	if (r == 0)
		d->irq_fd = fd_take(&fd);
	return r == -ENOTSUP ? 0 : r;
}

int device_start(struct device *d, struct smolvm_error *err)
{
	struct virtio_device *virtio = d->virtio;
	uint64_t gpa = arch_layout.mmio_base +
		       (uint64_t)(d - d->vmm->devices) * VIRTIO_MMIO_BYTES;
	int r = connect_irq(d, err);

	for (unsigned int q = 0; q < virtio->n_queues && !r; q++)
		if (virtio->notify_fds[q] >= 0)
			r = d->vmm->ops->notify_fd(d->vmm->hv, gpa + VIRTIO_MMIO_QUEUE_NOTIFY, q,
						   virtio->notify_fds[q]);
	if (r && r != -ENOTSUP)
		return err_set(err, -r, "cannot connect a %s device to the hypervisor: %s",
			       virtio->ops->name, strerror(-r));
	return virtio->ops->start ? virtio->ops->start(virtio, err) : 0;
}

void device_fini(struct device *d)
{
	virtio_mmio_fini(&d->mmio);
	d->virtio->ops->destroy(d->virtio);
	fd_close(&d->irq_fd);
}
