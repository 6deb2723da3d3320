/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many streams over one byte channel: for backends whose only channel is a serial port.
 *
 * Pure: bytes that arrived go in through mux_input(), bytes to send come out of mux_output(), and
 * what happened is told through callbacks. One thread. A frame on the wire is
 *
 *     type (u8), reserved (u8, 0), payload length (u16), stream (u32), payload; little endian
 *
 * HELLO   stream 0: magic, version, lowest version accepted, features, window (u32 each).
 *         The first frame in each direction.
 * OPEN    port (u32). Streams that the host opens have even numbers, the agent's odd ones.
 * OPENED  the OPEN is accepted. The opener may send before it arrives.
 * DATA    at most as many bytes as the receiver has given credit for.
 * CREDIT  bytes (u32) more that may be sent. A stream starts with the receiver's window.
 * FIN     no more DATA from this side. When both have sent it the stream is gone.
 * RESET   errno (u32): the stream is gone, in both directions; also the answer to a refused OPEN.
 *
 * Everything waiting to be sent is state of some stream, so nothing here grows without bound: a
 * slow reader holds back its own stream alone, and streams with something to send take turns of
 * one frame each.
 *
 * Callbacks may call everything about streams, any stream, and mux_open(), but not mux_input() or
 * mux_destroy(); and mux_output() only where they were not called from it.
 */
#ifndef PROTO_MUX_H
#define PROTO_MUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <smolvm/error.h>

#include "proto/stream.h"

#define MUX_VERSION      1u
#define MUX_FRAME_HEADER 8u
#define MUX_PAYLOAD_MAX  32760u /* with its header, what a virtio console takes at once */
#define MUX_WINDOW       STREAM_WINDOW
#define MUX_WINDOW_MAX   (64u << 20)
#define MUX_QUEUE_MAX    STREAM_QUEUE_MAX
#define MUX_STREAMS_MAX  STREAMS_MAX /* more breaks the protocol */

enum mux_side { MUX_HOST = 0, MUX_GUEST = 1 };

struct mux;

/**
 * struct mux_events - what the peer does.
 * @hello:    the peer has said hello; its features. Called once, before anything else.
 * @incoming: the peer opens stream @s to @port: call mux_accept() on it and return 0, or return a
 *            negative errno, which refuses it.
 */
struct mux_events {
	void (*hello)(void *ctx, uint32_t features);
	int (*incoming)(void *ctx, struct stream *s, uint32_t port);
};

/** mux_create() - @side decides who numbers streams how. Return: the mux, NULL without memory. */
struct mux *mux_create(enum mux_side side, uint32_t features, const struct mux_events *events,
		       void *ctx);

/** mux_destroy() - every stream still open is closed with @error first (its closed() is called). */
void mux_destroy(struct mux *m, int error);

/**
 * mux_input() - bytes from the channel, in order, in any pieces.
 *
 * Return: 0; -EPROTO when the peer broke the protocol, -EPROTONOSUPPORT when it speaks no version
 * of ours, -ENOMEM. After a failure the channel is unusable.
 */
int mux_input(struct mux *m, const uint8_t *p, size_t n, struct smolvm_error *err);

/**
 * mux_output() - up to @cap bytes to send.
 *
 * Return: how many; 0 only where mux_output_pending() is false (or @cap is 0). Small buffers cut
 * streams into small frames: give it some KiB.
 */
size_t mux_output(struct mux *m, uint8_t *p, size_t cap);

/** mux_output_pending() - whether mux_output() would return anything now. */
bool mux_output_pending(const struct mux *m);

/** mux_streams() - streams open now, of both directions. */
unsigned int mux_streams(const struct mux *m);

/**
 * mux_open() - open a stream to the peer's @port.
 *
 * Return: the stream, usable at once; NULL with errno EMFILE (MUX_STREAMS_MAX), ENOMEM, or EPIPE
 * on a channel that has failed.
 */
struct stream *mux_open(struct mux *m, uint32_t port, const struct stream_events *events,
			void *ctx);

/*
 * The operations of struct stream_ops on streams of a multiplexer, for those who know that it is
 * one. mux_write() fails for want of memory only: the stream is then closed with -ENOMEM.
 */
void mux_accept(struct stream *s, const struct stream_events *events, void *ctx);
size_t mux_write(struct stream *s, const void *p, size_t n);
size_t mux_room(struct stream *s);
void mux_finish(struct stream *s);
void mux_consumed(struct stream *s, size_t n);
void mux_grant(struct stream *s, uint32_t n);
void mux_reset(struct stream *s, int error);

#endif
