/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A serial port that only speaks: the guest's debugging console.
 */
#ifndef VMM_SERIAL_H
#define VMM_SERIAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"

#define SERIAL_BYTES	8u
#define SERIAL_LINE_MAX 256u

/**
 * struct serial - one port.
 * @fd:       gets the output, never waited for; 0: none. @chunk: bytes that one write may have.
 * @irq:      raises its interrupt line.
 * @transmit_pending: "transmitter empty" has not been seen by the driver yet.
 * @line:     output that has not been written yet, @bytes of it.
 */
struct serial {
	pthread_mutex_t lock;
	int fd;
	bool is_socket;
	unsigned int chunk;
	void (*irq)(void *ctx);
	void *ctx;
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
	bool transmit_pending;
	uint8_t line[SERIAL_LINE_MAX];
	unsigned int bytes;
};

void serial_init(struct serial *s, int fd, void (*irq)(void *ctx), void *ctx);

/** serial_flush() - write what is held back of a line. Any thread. */
void serial_flush(struct serial *s);
void serial_fini(struct serial *s);

/** serial_access() - for struct bus_range; @ctx is the port. */
void serial_access(void *ctx, const struct bus_access *a);

#endif
