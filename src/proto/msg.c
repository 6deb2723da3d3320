/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed messages on a stream.
 */
#include "proto/msg.h"

#include <errno.h>

#include "base/endian.h"

void msg_header(uint8_t *p, uint8_t type, uint32_t len)
{
	put_le32(p, len);
	put_le32(p + 4, type);
}

long msg_parse(const uint8_t *p, size_t n, uint32_t max, struct msg *ret)
{
	uint32_t len;

	if (n < MSG_HEADER)
		return 0;
	len = get_le32(p);
	if (len > max || get_le32(p + 4) > UINT8_MAX)
		return -EBADMSG;
	if (n - MSG_HEADER < len)
		return 0;
	*ret = (struct msg){ p[4], len, p + MSG_HEADER };
	return (long)(MSG_HEADER + len);
}
