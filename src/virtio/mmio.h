/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-mmio transport (virtio 1.2 §4.2, version 2 of the registers).
 */
#ifndef VIRTIO_MMIO_H
#define VIRTIO_MMIO_H

#include "virtio/device.h"

#define VIRTIO_MMIO_BYTES	 0x1000u
#define VIRTIO_MMIO_QUEUE_NOTIFY 0x50u

/**
 * struct virtio_mmio - one device's registers.
 * @queue_sel, @feature_sel, @driver_feature_sel: what the driver has selected.
 */
struct virtio_mmio {
	struct virtio_device *device;
	struct loop_watch watches[VIRTIO_QUEUES_MAX];
	uint32_t queue_sel, feature_sel, driver_feature_sel;
	bool driver_seen;    /* DRIVER_OK has been reached once; atomic */
	bool feature_beyond; /* the driver took one above the 64 that can be offered */
	bool resetting;	     /* the device's reset() is under way */
};

/**
 * virtio_mmio_init() - put the registers before @d. With a loop in its env: make the queues'
 * eventfds, and watch them (unless the device does so itself). Before the machine runs.
 * Return: 0 or -errno.
 */
int virtio_mmio_init(struct virtio_mmio *m, struct virtio_device *d);

/** virtio_mmio_fini() - stop watching, close the eventfds. The device stays. */
void virtio_mmio_fini(struct virtio_mmio *m);

/**
 * virtio_mmio_read() - the driver reads @size bytes at @offset of the registers.
 * virtio_mmio_write() - and writes. Any vCPU's thread; they take the device's lock. What is not
 * there, or of a wrong size, reads as zeroes and is not written.
 */
void virtio_mmio_read(struct virtio_mmio *m, uint64_t offset, uint8_t *p, unsigned int size);
void virtio_mmio_write(struct virtio_mmio *m, uint64_t offset, const uint8_t *p,
		       unsigned int size);

/** virtio_mmio_reset() - as if the driver had written 0 to the status. */
void virtio_mmio_reset(struct virtio_mmio *m);

#endif
