/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing whole messages to a stream that takes only so many bytes at a time.
 */
#ifndef AGENT_SENDER_H
#define AGENT_SENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <smolvm/error.h>

#include "base/buf.h"
#include "proto/stream.h"

/**
 * struct sender - a stream, and what it did not take yet.
 * @stream: NULL once it is gone: everything put in is then thrown away.
 */
struct sender {
	struct stream *stream;
	struct buf rest;
};

/** sender_init() - at most @max bytes ever wait. */
void sender_init(struct sender *sd, struct stream *s, size_t max);
void sender_fini(struct sender *sd);

/** sender_put() - send, or keep for sender_flush(). Return: 0, -ENOBUFS, -ENOMEM. */
int sender_put(struct sender *sd, const void *p, size_t n);

/** sender_message() - a message of proto/msg.h with a body of at most 64 bytes. As sender_put(). */
int sender_message(struct sender *sd, uint8_t type, const void *body, size_t n);

/** sender_failure() - a message @type whose body is a TLV of enum failure_key. As sender_put(). */
int sender_failure(struct sender *sd, uint8_t type, const struct smolvm_error *err);

/** sender_flush() - Return: true when nothing waits. To be called when the stream is writable. */
bool sender_flush(struct sender *sd);

#endif
