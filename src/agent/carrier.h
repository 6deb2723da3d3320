/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What carries streams between the agent and the host: the multiplexer on a virtio console port
 * (channel.c), or sockets (vsock.c). Nobody else knows which.
 */
#ifndef AGENT_CARRIER_H
#define AGENT_CARRIER_H

#include "base/loop.h"
#include "proto/stream.h"

#include <smolvm/error.h>

struct carrier;

/**
 * struct carrier_ops - what each kind does; see the functions below.
 */
struct carrier_ops {
	struct stream *(*open)(struct carrier *c, uint32_t port,
			       const struct stream_events *events, void *ctx);
	void (*flush)(struct carrier *c);
	void (*end)(struct carrier *c, int error);
};

/**
 * struct carrier_events - what the host does.
 * @incoming: it opens stream @s to @port: call stream_accept() on it and return 0, or return a
 *            negative errno, which refuses it.
 * @lost:     it is gone or has broken the protocol; does not return.
 */
struct carrier_events {
	int (*incoming)(void *ctx, struct stream *s, uint32_t port);
	void (*lost)(const char *why);
};

/**
 * struct carrier - each kind's object begins with it.
 */
struct carrier {
	const struct carrier_ops *ops;
	const struct carrier_events *events;
	void *ctx;
	struct loop *loop;
};

/** carrier_open() - open a stream to the host's @port. Return: it, usable at once; NULL, errno. */
static inline struct stream *carrier_open(struct carrier *c, uint32_t port,
					  const struct stream_events *events, void *ctx)
{
	return c->ops->open(c, port, events, ctx);
}

/**
 * carrier_flush() - send what streams have to say, as far as it goes now; the rest follows by
 * itself. To be called at the end of every callback that may have written to a stream.
 */
static inline void carrier_flush(struct carrier *c)
{
	c->ops->flush(c);
}

/** carrier_end() - close every stream with @error; nothing is carried any more. */
static inline void carrier_end(struct carrier *c, int error)
{
	c->ops->end(c, error);
}

/**
 * channel_start() - find the console port, waiting for it a bounded time; say hello on it, and
 * take part in the loop. events, ctx and loop of *@c are filled in.
 * @ret: the carrier, which lives as long as the agent.
 *
 * Return: 0 or -errno.
 */
int channel_start(const struct carrier *c, struct carrier **ret, struct smolvm_error *err);

/** vsock_start() - listen on the agent's ports, say hello to the host. As channel_start(). */
int vsock_start(const struct carrier *c, struct carrier **ret, struct smolvm_error *err);

#endif
