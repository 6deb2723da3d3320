/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent makes of requests to set up a machine and to run a command.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/command.h"
#include "agent/command_child.h"
#include "agent/setup.h"
#include "proto/agent.h"
#include "proto/tlv.h"

#define REQUEST_MAX (4u << 20)

/* A copy of exactly the size, so that a read beyond it is seen. */
static int parse_setup(struct buf *b, struct setup *s, struct smolvm_error *err)
{
	uint8_t *copy = malloc(b->len ? b->len : 1);
	int rc;

	assert_non_null(copy);
	if (b->len)
		memcpy(copy, buf_peek(b), b->len);
	rc = setup_parse(s, copy, b->len, err);
	free(copy);
	return rc;
}

static int parse_command(struct buf *b, struct command *c, struct smolvm_error *err)
{
	uint8_t *copy = malloc(b->len ? b->len : 1);
	int rc;

	assert_non_null(copy);
	if (b->len)
		memcpy(copy, buf_peek(b), b->len);
	rc = command_parse(c, copy, b->len, err);
	free(copy);
	return rc;
}

static void add_share(struct buf *b, uint64_t number, const char *path)
{
	struct buf share;

	buf_init(&share, 8192);
	assert_int_equal(tlv_put_u64(&share, SHARE_NUMBER, number), 0);
	assert_int_equal(tlv_put_str(&share, SHARE_PATH, path), 0);
	assert_int_equal(tlv_put_u64(&share, SHARE_READ_ONLY, 1), 0);
	assert_int_equal(tlv_put(b, SETUP_SHARE, buf_peek(&share), share.len), 0);
	buf_fini(&share);
}

static void test_setup(void **state)
{
	struct setup s;
	struct buf b;
	uint8_t seed[SETUP_ENTROPY_MIN] = { 1, 2, 3 };

	(void)state;
	buf_init(&b, REQUEST_MAX);
	tlv_put_str(&b, SETUP_HOSTNAME, "box");
	tlv_put_u64(&b, SETUP_TIME_NS, 1234567890123456789u);
	tlv_put(&b, SETUP_ENTROPY, seed, sizeof(seed));
	tlv_put_str(&b, SETUP_ROOT_DEVICE, "/dev/vda");
	tlv_put_u64(&b, SETUP_READ_ONLY, 1);
	add_share(&b, 3, "/a");
	add_share(&b, 0, "/a/b");
	add_share(&b, SHARES_MAX - 1, "/c");
	tlv_put_u64(&b, SETUP_FS_SHARES, UINT64_C(1) << 63 | 1);
	assert_int_equal(parse_setup(&b, &s, NULL), 0);
	assert_string_equal(s.hostname, "box");
	assert_string_equal(s.root_device, "/dev/vda");
	assert_null(s.write_device);
	assert_true(s.time_ns == 1234567890123456789u);
	assert_memory_equal(s.entropy, seed, sizeof(seed));
	assert_int_equal(s.entropy_len, sizeof(seed));
	assert_true(s.read_only);
	assert_int_equal(s.n_shares, 3);
	assert_true(s.fs_shares == (UINT64_C(1) << 63 | 1));
	assert_string_equal(s.shares[1].path, "/a/b");
	assert_int_equal(s.shares[0].number, 3);
	assert_true(s.shares[0].read_only);
	assert_false(s.shares[0].is_file);
	setup_fini(&s);
	buf_fini(&b);
}

/* Each makes a request wrong that is right but for that. */
static void bad_key(struct buf *b) { tlv_put_u64(b, 99, 1); }
static void bad_flag(struct buf *b) { tlv_put_u64(b, SETUP_READ_ONLY, 2); }
static void bad_number(struct buf *b) { tlv_put(b, SETUP_TIME_NS, "abc", 3); }
static void bad_entropy(struct buf *b) { tlv_put(b, SETUP_ENTROPY, "short", 5); }
static void bad_nul(struct buf *b) { tlv_put(b, SETUP_HOSTNAME, "a\0b", 3); }
static void bad_twice(struct buf *b) { tlv_put_str(b, SETUP_ROOT_DEVICE, "/dev/vdb"); }
static void bad_share_number(struct buf *b) { add_share(b, SHARES_MAX, "/a"); }
static void bad_share_path(struct buf *b) { add_share(b, 0, "relative"); }
static void bad_share_empty(struct buf *b) { tlv_put(b, SETUP_SHARE, "", 0); }
static void bad_share_inside(struct buf *b) { tlv_put(b, SETUP_SHARE, "\1\0\0\0\377\0\0\0", 8); }
static void bad_fs_number(struct buf *b) { tlv_put(b, SETUP_FS_SHARES, "\0\0\0\0", 4); }
static void bad_fs_nobody(struct buf *b)
{
	add_share(b, 1, "/a");
	tlv_put_u64(b, SETUP_FS_SHARES, 1 | 2);
}
static void bad_fs_file(struct buf *b)
{
	struct buf share;

	buf_init(&share, 8192);
	tlv_put_u64(&share, SHARE_NUMBER, 1);
	tlv_put_str(&share, SHARE_PATH, "/a");
	tlv_put_u64(&share, SHARE_IS_FILE, 1);
	tlv_put(b, SETUP_SHARE, buf_peek(&share), share.len);
	buf_fini(&share);
	tlv_put_u64(b, SETUP_FS_SHARES, 2);
}
static void bad_end(struct buf *b) { buf_add(b, "\1\0\0", 3); }
static void bad_share_twice(struct buf *b)
{
	add_share(b, 1, "/a");
	add_share(b, 1, "/b");
}
static void bad_share_count(struct buf *b)
{
	for (unsigned int i = 0; i <= SHARES_MAX; i++)
		add_share(b, i % SHARES_MAX, "/a");
}

static void test_bad_setup(void **state)
{
	static void (*const spoil[])(struct buf *) = {
		bad_key, bad_flag, bad_number, bad_entropy, bad_nul, bad_twice, bad_share_number,
		bad_share_path, bad_share_empty, bad_share_inside, bad_share_twice, bad_share_count,
		bad_fs_number, bad_fs_nobody, bad_fs_file, bad_end,
	};
	struct setup s;
	struct buf b;

	(void)state;
	for (size_t i = 0; i < sizeof(spoil) / sizeof(*spoil); i++) {
		struct smolvm_error err = SMOLVM_ERROR_INIT;

		print_message("case %zu\n", i);
		buf_init(&b, REQUEST_MAX);
		tlv_put_str(&b, SETUP_ROOT_DEVICE, "/dev/vda");
		assert_int_equal(parse_setup(&b, &s, &err), 0);
		setup_fini(&s);
		spoil[i](&b);
		assert_true(parse_setup(&b, &s, &err) < 0);
		assert_true(err.code > 0 && err.message[0]);
		setup_fini(&s);
		buf_fini(&b);
	}
	buf_init(&b, 64);
	assert_int_equal(parse_setup(&b, &s, NULL), -EINVAL); /* no root device */
	setup_fini(&s);
}

static void test_command(void **state)
{
	struct command c;
	struct buf b;

	(void)state;
	buf_init(&b, REQUEST_MAX);
	for (int i = 0; i < 1000; i++)
		tlv_put_str(&b, EXEC_ARG, i ? "arg" : "program");
	tlv_put_str(&b, EXEC_ENV, "A=");
	tlv_put_str(&b, EXEC_ENV, "B=c=d");
	tlv_put_str(&b, EXEC_CWD, "/x");
	tlv_put_str(&b, EXEC_USER, "alice");
	tlv_put_u64(&b, EXEC_TTY, 24u << 16 | 80u);
	assert_int_equal(parse_command(&b, &c, NULL), 0);
	assert_int_equal(c.args.n, 1000);
	assert_string_equal(c.args.v[0], "program");
	assert_null(c.args.v[1000]);
	assert_int_equal(c.env.n, 2);
	assert_true(c.tty && !c.detach && !c.no_stdin);
	assert_int_equal(c.rows, 24);
	assert_int_equal(c.columns, 80);
	command_fini(&c);
	buf_fini(&b);
}

static void test_bad_command(void **state)
{
	static const struct {
		uint16_t key;
		const char *value;
		size_t len;
	} bad[] = {
		{ 99, "x", 1 }, { EXEC_ARG, "a\0b", 3 }, { EXEC_ENV, "novalue", 7 },
		{ EXEC_CWD, "relative", 8 }, { EXEC_TTY, "x", 1 },
		{ EXEC_TTY, "\0\0\0\0\1\0\0\0", 8 }, { EXEC_NO_STDIN, "\2\0\0\0\0\0\0\0", 8 },
	};
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct command c;
	struct buf b;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		print_message("case %zu\n", i);
		buf_init(&b, REQUEST_MAX);
		tlv_put_str(&b, EXEC_ARG, "true");
		tlv_put(&b, bad[i].key, bad[i].value, bad[i].len);
		assert_true(parse_command(&b, &c, &err) < 0);
		assert_true(err.message[0]);
		command_fini(&c);
		buf_fini(&b);
	}
	buf_init(&b, 64);
	assert_int_equal(parse_command(&b, &c, NULL), -EINVAL); /* no command */
	command_fini(&c);
	buf_init(&b, REQUEST_MAX);
	for (unsigned int i = 0; i <= COMMAND_STRINGS_MAX; i++)
		tlv_put(&b, EXEC_ARG, "", 0);
	assert_int_equal(parse_command(&b, &c, NULL), -E2BIG);
	command_fini(&c);
	buf_fini(&b);
}

static void test_environment(void **state)
{
	char *given[] = { (char *)"PATHX=no", (char *)"HOME=/given", NULL };
	struct strings some = { given, 2, 3 }, none = { NULL, 0, 0 };
	char **env;

	(void)state;
	env = command_environment(&some, "/home/x", false);
	assert_non_null(env);
	assert_string_equal(env[0], "PATHX=no");
	assert_string_equal(env[1], "HOME=/given");
	assert_memory_equal(env[2], "PATH=", 5);
	assert_null(env[3]);
	free(env);
	env = command_environment(&none, "/home/x", true);
	assert_non_null(env);
	assert_memory_equal(env[0], "PATH=", 5);
	assert_string_equal(env[1], "HOME=/home/x");
	assert_string_equal(env[2], "TERM=xterm");
	assert_null(env[3]);
	free(env[1]);
	free(env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_setup),
		cmocka_unit_test(test_bad_setup),
		cmocka_unit_test(test_command),
		cmocka_unit_test(test_bad_command),
		cmocka_unit_test(test_environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
