/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed messages on a stream.
 *
 * On the wire: length of the body (u32), type (u8), three reserved bytes (0); little endian; then
 * the body. Every protocol that rides on a stream, shared folders apart, is made of these.
 */
#ifndef PROTO_MSG_H
#define PROTO_MSG_H

#include <stddef.h>
#include <stdint.h>

#define MSG_HEADER 8u
/* The most bytes one body may have; requests hold arguments and variables (2 MiB on Linux). */
#define MSG_BODY_MAX (4u << 20)

/**
 * struct msg - one message, its body pointing into the parsed bytes.
 */
struct msg {
	uint8_t type;
	uint32_t len;
	const uint8_t *body;
};

/** msg_header() - write MSG_HEADER bytes to @p: a message with @len bytes of body. */
void msg_header(uint8_t *p, uint8_t type, uint32_t len);

/**
 * msg_parse() - find one whole message at the start of @p.
 * @max: the largest body accepted.
 *
 * Return: the bytes it takes (header included) with *@ret filled in; 0 when more bytes are
 * needed; -EBADMSG when it is malformed or larger than @max.
 */
long msg_parse(const uint8_t *p, size_t n, uint32_t max, struct msg *ret);

#endif
