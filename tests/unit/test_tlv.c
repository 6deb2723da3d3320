/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of tagged values, and typed messages.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "proto/msg.h"
#include "proto/tlv.h"

static void round_trip(void **state)
{
	struct tlv_reader r;
	struct buf b;
	struct tlv t;
	uint64_t v;
	char *s;

	buf_init(&b, 4096);
	assert_int_equal(tlv_put_str(&b, 1, "hello"), 0);
	assert_int_equal(tlv_put_str(&b, 9, NULL), 0);
	assert_int_equal(tlv_put_u64(&b, 0xffff, 0x0102030405060708), 0);
	assert_int_equal(tlv_put(&b, 2, NULL, 0), 0);
	assert_int_equal(b.len, 3 * TLV_HEADER + 5 + 8);
	tlv_reader_init(&r, buf_peek(&b), b.len);
	assert_int_equal(tlv_next(&r, &t), 1);
	assert_int_equal(t.key, 1);
	assert_int_equal(tlv_u64(&t, &v), -EBADMSG);
	assert_int_equal(tlv_str(&t, &s), 0);
	assert_string_equal(s, "hello");
	free(s);
	assert_int_equal(tlv_next(&r, &t), 1);
	assert_int_equal(t.key, 0xffff);
	assert_int_equal(tlv_u64(&t, &v), 0);
	assert_true(v == 0x0102030405060708);
	assert_int_equal(tlv_next(&r, &t), 1);
	assert_int_equal(t.len, 0);
	assert_int_equal(tlv_str(&t, &s), 0);
	assert_string_equal(s, "");
	free(s);
	assert_int_equal(tlv_next(&r, &t), 0);
	assert_int_equal(tlv_next(&r, &t), 0);
	buf_fini(&b);
}

static void wire_format(void **state)
{
	static const uint8_t want[] = { 7, 1, 0, 0, 2, 0, 0, 0, 'a', 'b' };
	struct buf b;

	buf_init(&b, 64);
	assert_int_equal(tlv_put(&b, 0x0107, "ab", 2), 0);
	assert_int_equal(b.len, sizeof(want));
	assert_memory_equal(buf_peek(&b), want, sizeof(want));
	buf_fini(&b);
}

static void full_buffer(void **state)
{
	struct buf b;

	buf_init(&b, 20);
	assert_int_equal(tlv_put(&b, 1, "0123456789abc", 13), -ENOBUFS);
	assert_int_equal(b.len, 0);
	assert_int_equal(tlv_put(&b, 1, "0123456789ab", 12), 0);
	assert_int_equal(tlv_put(&b, 1, NULL, 0), -ENOBUFS);
	assert_int_equal(tlv_put(&b, 1, "", (size_t)UINT32_MAX + 1), -ENOBUFS);
	assert_int_equal(b.len, 20);
	buf_fini(&b);
}

static void malformed(void **state)
{
	static const uint8_t longer[] = { 1, 0, 0, 0, 3, 0, 0, 0, 'a', 'b' };
	static const uint8_t huge[] = { 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 'a', 'b' };
	static const uint8_t reserved[] = { 1, 0, 0, 1, 2, 0, 0, 0, 'a', 'b' };
	static const uint8_t nul[] = { 1, 0, 0, 0, 2, 0, 0, 0, 'a', 0 };
	struct tlv_reader r;
	struct tlv t;
	char *s;

	for (size_t n = 1; n < sizeof(longer); n++) {
		tlv_reader_init(&r, longer, n);
		assert_int_equal(tlv_next(&r, &t), -EBADMSG);
	}
	tlv_reader_init(&r, huge, sizeof(huge));
	assert_int_equal(tlv_next(&r, &t), -EBADMSG);
	tlv_reader_init(&r, reserved, sizeof(reserved));
	assert_int_equal(tlv_next(&r, &t), -EBADMSG);
	tlv_reader_init(&r, nul, sizeof(nul));
	assert_int_equal(tlv_next(&r, &t), 1);
	assert_int_equal(tlv_str(&t, &s), -EBADMSG);
	tlv_reader_init(&r, NULL, 0);
	assert_int_equal(tlv_next(&r, &t), 0);
}

static void messages(void **state)
{
	uint8_t p[MSG_HEADER + 300] = { 0 };
	struct msg m;

	msg_header(p, 0xfe, 300);
	p[MSG_HEADER] = 'x';
	for (size_t n = 0; n < sizeof(p); n++)
		assert_int_equal(msg_parse(p, n, 300, &m), 0);
	assert_int_equal(msg_parse(p, sizeof(p), 300, &m), sizeof(p));
	assert_int_equal(m.type, 0xfe);
	assert_int_equal(m.len, 300);
	assert_int_equal(m.body[0], 'x');
	assert_int_equal(msg_parse(p, MSG_HEADER, 299, &m), -EBADMSG);
	assert_int_equal(msg_parse(p, MSG_HEADER - 1, 299, &m), 0);
	p[5] = 1;
	assert_int_equal(msg_parse(p, sizeof(p), 300, &m), -EBADMSG);
	msg_header(p, 1, 0);
	assert_int_equal(msg_parse(p, sizeof(p), 0, &m), MSG_HEADER);
	msg_header(p, 1, UINT32_MAX);
	assert_int_equal(msg_parse(p, sizeof(p), MSG_BODY_MAX, &m), -EBADMSG);
}

static void little_endian(void **state)
{
	uint8_t p[9];

	put_le64(p + 1, 0xfedcba9876543210);
	assert_int_equal(p[1], 0x10);
	assert_int_equal(p[8], 0xfe);
	assert_true(get_le64(p + 1) == 0xfedcba9876543210);
	assert_true(get_le32(p + 5) == 0xfedcba98);
	assert_int_equal(get_le16(p + 7), 0xfedc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(wire_format),
		cmocka_unit_test(full_buffer),
		cmocka_unit_test(malformed),
		cmocka_unit_test(messages),
		cmocka_unit_test(little_endian),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
