/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of tagged values: the body of every request between the client, the VMM and the agent.
 *
 * A value on the wire: key (u16), reserved (u16, 0), length (u32), then the bytes; little endian,
 * no padding. Keys may repeat, in an order that means something (arguments, variables, shares).
 */
#ifndef PROTO_TLV_H
#define PROTO_TLV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define TLV_HEADER 8u

/** tlv_put() - append a value. Return: 0, -ENOBUFS over the buffer's maximum, -ENOMEM. */
int tlv_put(struct buf *b, uint16_t key, const void *value, size_t len);

/** tlv_put_str() - append a string without its NUL; NULL appends nothing. */
int tlv_put_str(struct buf *b, uint16_t key, const char *s);

/** tlv_put_u64() - append a number: eight bytes, little endian. */
int tlv_put_u64(struct buf *b, uint16_t key, uint64_t v);

/**
 * struct tlv - one value read, pointing into the message.
 * @data: @len bytes, not NUL-terminated, and possibly holding NULs.
 */
struct tlv {
	uint16_t key;
	uint32_t len;
	const uint8_t *data;
};

struct tlv_reader {
	const uint8_t *at, *end;
};

void tlv_reader_init(struct tlv_reader *r, const void *data, size_t len);

/** tlv_next() - Return: 1 with *@ret filled in, 0 at the end, -EBADMSG when malformed. */
int tlv_next(struct tlv_reader *r, struct tlv *ret);

/** tlv_u64() - the value as a number. Return: 0, or -EBADMSG when it is not eight bytes. */
int tlv_u64(const struct tlv *t, uint64_t *ret);

/**
 * tlv_str() - the value as a new NUL-terminated string, the caller's to free().
 *
 * Return: 0, -EBADMSG when it holds a NUL, -ENOMEM.
 */
int tlv_str(const struct tlv *t, char **ret);

#endif
