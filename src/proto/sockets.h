/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams that are sockets of their own, on an event loop. Whatever connects or accepts the sockets
 * knows of which family they are; this does not.
 *
 * What one event makes a stream say goes out in one system call, at the flush; large pieces go out
 * where they are written, without being copied.
 */
#ifndef PROTO_SOCKETS_H
#define PROTO_SOCKETS_H

#include <stdbool.h>

#include "base/loop.h"
#include "proto/stream.h"

#define SOCKETS_READ_MAX   (64u << 10) /* taken from one socket at once */
#define SOCKETS_DIRECT_MIN (8u << 10)  /* written pieces this large are not copied */

struct sockets;

/** sockets_create() - no streams yet. Return: the set, NULL without memory. */
struct sockets *sockets_create(struct loop *l);

/** sockets_destroy() - every stream still open is closed with @error first. */
void sockets_destroy(struct sockets *set, int error);

/**
 * sockets_add() - a stream on a non-blocking stream socket.
 * @fd:         the stream's from now on; closed on failure.
 * @connecting: connect() has said EINPROGRESS.
 *
 * The caller hands it to stream_accept() or stream_reset() at once.
 * Return: the stream; NULL with errno EMFILE (STREAMS_MAX), ENOMEM, or what the loop says.
 */
struct stream *sockets_add(struct sockets *set, int fd, bool connecting);

/**
 * sockets_flush() - send what streams have to say, and see to those that have ended. To be called
 * at the end of every event that may have touched a stream; their own events do it by themselves.
 */
void sockets_flush(struct sockets *set);

/** sockets_streams() - streams open now. */
unsigned int sockets_streams(const struct sockets *set);

#endif
