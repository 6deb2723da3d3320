/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream: bytes in both directions, each with back-pressure of its own and an end of its own.
 *
 * What carries it is behind a table of operations: the multiplexer (proto/mux.h), or a socket of
 * its own (proto/sockets.h). One thread. What is written leaves at the carrier's flush, which
 * whoever runs the event loop calls at the end of every event. Callbacks may call everything about
 * streams, any stream.
 */
#ifndef PROTO_STREAM_H
#define PROTO_STREAM_H

#include <stddef.h>
#include <stdint.h>

#define STREAM_WINDOW    (256u << 10) /* bytes that may arrive beyond those consumed */
#define STREAM_QUEUE_MAX (128u << 10) /* bytes one stream may have waiting to be sent */
#define STREAMS_MAX      1024u        /* opened by one side at once */

struct stream;

/**
 * struct stream_events - what happens to a stream. @ctx is the stream's owner.
 * @opened:   the peer has accepted it (streams that this side opened). May be NULL.
 * @data:     @n bytes arrived, and are the callback's to keep: it must take them all. They count
 *            against the window until stream_consumed() gives them back.
 * @writable: stream_write() would take bytes again, after it took less than it was given.
 * @ended:    the peer sends no more.
 * @closed:   the stream is gone and the pointer with it: error 0 after an end in both directions,
 *            else a negative errno (-ECONNRESET and -EPIPE among them). Not called after
 *            stream_reset().
 */
struct stream_events {
	void (*opened)(void *ctx, struct stream *s);
	void (*data)(void *ctx, struct stream *s, const uint8_t *p, size_t n);
	void (*writable)(void *ctx, struct stream *s);
	void (*ended)(void *ctx, struct stream *s);
	void (*closed)(void *ctx, struct stream *s, int error);
};

/**
 * struct stream_ops - how a carrier does what the functions below say.
 */
struct stream_ops {
	void (*accept)(struct stream *s, const struct stream_events *events, void *ctx);
	size_t (*write)(struct stream *s, const void *p, size_t n);
	size_t (*room)(struct stream *s);
	void (*finish)(struct stream *s);
	void (*consumed)(struct stream *s, size_t n);
	void (*grant)(struct stream *s, uint32_t n);
	void (*reset)(struct stream *s, int error);
};

/**
 * struct stream - the carrier's object begins with it; its fields are the carrier's.
 */
struct stream {
	const struct stream_ops *ops;
	const struct stream_events *events;
	void *ctx;
};

/** stream_accept() - take over an incoming stream; only where the carrier announces it. */
static inline void stream_accept(struct stream *s, const struct stream_events *events, void *ctx)
{
	s->ops->accept(s, events, ctx);
}

/**
 * stream_write() - queue bytes.
 *
 * Return: how many were taken (0 to @n). Where it cannot go on (no memory, a peer that is gone) it
 * takes none, and the stream is closed with an error soon after.
 */
static inline size_t stream_write(struct stream *s, const void *p, size_t n)
{
	return s->ops->write(s, p, n);
}

/** stream_room() - how many bytes stream_write() would take now; at 0, writable() follows. */
static inline size_t stream_room(struct stream *s)
{
	return s->ops->room(s);
}

/** stream_finish() - this side's end, after what is queued; no stream_write() afterwards. */
static inline void stream_finish(struct stream *s)
{
	s->ops->finish(s);
}

/** stream_consumed() - @n bytes given by data() are passed on: the peer may send as many more. */
static inline void stream_consumed(struct stream *s, size_t n)
{
	s->ops->consumed(s, n);
}

/** stream_grant() - widen the stream's window by @n bytes for good. */
static inline void stream_grant(struct stream *s, uint32_t n)
{
	s->ops->grant(s, n);
}

/**
 * stream_reset() - end it both ways now with a negative errno; queued bytes are lost, @s is gone.
 *
 * A carrier that cannot say why leaves the errno out.
 */
static inline void stream_reset(struct stream *s, int error)
{
	s->ops->reset(s, error);
}

#endif
