/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The byte channel to the host: a virtio console port, with the multiplexer on it.
 */
#ifndef AGENT_CHANNEL_H
#define AGENT_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "proto/mux.h"

/* The port takes at most this many bytes in one write, and hands out at most a page in one read. */
#define CHANNEL_WRITE_MAX (32u << 10)
#define CHANNEL_READ_MAX  (64u << 10)
#define CHANNEL_PAGE      4096u

/**
 * struct channel - the port.
 * @out:   bytes of the multiplexer on their way, from @out_at to @out_len.
 * @flushing: channel_flush() has nothing to do, since somebody does it further up.
 * @lost:  called when the host is gone or has broken the protocol; does not return.
 */
struct channel {
	struct loop *loop;
	struct mux *mux;
	struct loop_watch watch;
	int fd;
	size_t out_at, out_len;
	bool flushing;
	void (*lost)(const char *why);
	uint8_t out[CHANNEL_WRITE_MAX];
	uint8_t in[CHANNEL_READ_MAX];
};

/**
 * channel_open() - find and open the port, waiting for it a bounded time.
 *
 * Return: the descriptor (non-blocking), or -errno of the last attempt.
 */
int channel_open(void);

/**
 * channel_start() - say hello and take part in the loop. loop, mux, fd and lost are filled in.
 *
 * Return: 0 or -errno.
 */
int channel_start(struct channel *c);

/**
 * channel_flush() - send what the multiplexer has, as far as the port takes it now; the rest
 * follows by itself. To be called at the end of every callback that may have written to a stream.
 */
void channel_flush(struct channel *c);

#endif
