/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of tagged values.
 */
#include "proto/tlv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"

int tlv_put(struct buf *b, uint16_t key, const void *value, size_t len)
{
	uint8_t *p;

	if (len > UINT32_MAX || len + TLV_HEADER > buf_room(b))
		return -ENOBUFS;
	p = buf_reserve(b, TLV_HEADER + len);
	if (!p)
		return -ENOMEM;
	put_le16(p, key);
	put_le16(p + 2, 0);
	put_le32(p + 4, (uint32_t)len);
	if (len)
		memcpy(p + TLV_HEADER, value, len);
	buf_commit(b, TLV_HEADER + len);
	return 0;
}

int tlv_put_str(struct buf *b, uint16_t key, const char *s)
{
	return s ? tlv_put(b, key, s, strlen(s)) : 0;
}

int tlv_put_u64(struct buf *b, uint16_t key, uint64_t v)
{
	uint8_t le[8];

	put_le64(le, v);
	return tlv_put(b, key, le, sizeof(le));
}

void tlv_reader_init(struct tlv_reader *r, const void *data, size_t len)
{
	r->at = data;
	r->end = len ? r->at + len : r->at;
}

int tlv_next(struct tlv_reader *r, struct tlv *ret)
{
	size_t left = (size_t)(r->end - r->at);
	uint32_t len;

	if (left == 0)
		return 0;
	if (left < TLV_HEADER)
		return -EBADMSG;
	len = get_le32(r->at + 4);
	if (len > left - TLV_HEADER || get_le16(r->at + 2))
		return -EBADMSG;
	*ret = (struct tlv){ get_le16(r->at), len, r->at + TLV_HEADER };
	r->at += TLV_HEADER + len;
	return 1;
}

int tlv_u64(const struct tlv *t, uint64_t *ret)
{
	if (t->len != 8)
		return -EBADMSG;
	*ret = get_le64(t->data);
	return 0;
}

int tlv_str(const struct tlv *t, char **ret)
{
	char *s;

	if (memchr(t->data, '\0', t->len))
		return -EBADMSG;
	s = malloc((size_t)t->len + 1);
	if (!s)
		return -ENOMEM;
	memcpy(s, t->data, t->len);
	s[t->len] = '\0';
	*ret = s;
	return 0;
}
