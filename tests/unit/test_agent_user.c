/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users and groups of an image, as the agent resolves them.
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

#include "agent/user.h"

static const char passwd[] =
	"root:x:0:0:root:/root:/bin/sh\n"
	"# a comment\n"
	":x:9:9:no name:/:/bin/sh\n"
	"short:x:5\n"
	"notnum:x:abc:0::/:/bin/sh\n"
	"huge:x:4294967295:0::/:/bin/sh\n"
	"alice:x:1000:1001:Alice,,,:/home/alice:/bin/sh\n"
	"again:x:1000:1002::/home/again:/bin/sh\n"
	"nohome:x:1003:1003:::\n"
	"77:x:1077:1078::/home/digits:/bin/sh\n"
	"last:x:1004:1004::/home/last:";

static const char group[] =
	"root:x:0:\n"
	"alice:x:1001:\n"
	"audio:x:29:bob,alice\n"
	"almost:x:30:alicex,xalice,lice\n"
	"dev:x:2000:alice,bob\n"
	"broken:x:zz:alice\n"
	"wheel:x:10";

struct expected {
	const char *spec;
	int rc;
	uint32_t uid, gid;
	size_t n_groups;
	const char *home;
};

static const struct expected expected[] = {
	{ NULL, 0, 0, 0, 0, "/root" },
	{ "", 0, 0, 0, 0, "/root" },
	{ "root", 0, 0, 0, 0, "/root" },
	{ "alice", 0, 1000, 1001, 2, "/home/alice" },
	{ "1000", 0, 1000, 1001, 2, "/home/alice" },
	{ "again", 0, 1000, 1002, 0, "/home/again" },
	{ "77", 0, 1077, 1078, 0, "/home/digits" }, /* a name, though it looks like a number */
	{ "nohome", 0, 1003, 1003, 0, "/" },
	{ "last", 0, 1004, 1004, 0, "/home/last" },
	{ "4321", 0, 4321, 0, 0, "/" },
	{ "alice:dev", 0, 1000, 2000, 0, "/home/alice" },
	{ "alice:", 0, 1000, 1001, 2, "/home/alice" },
	{ ":dev", 0, 0, 2000, 0, "/root" },
	{ "55:66", 0, 55, 66, 0, "/" },
	{ "55:wheel", 0, 55, 10, 0, "/" },
	{ "4294967294", 0, 4294967294u, 0, 0, "/" },
	{ "4294967295", -EINVAL, 0, 0, 0, NULL },
	{ "99999999999", -EINVAL, 0, 0, 0, NULL },
	{ "-1", -EINVAL, 0, 0, 0, NULL },
	{ "nobody", -EINVAL, 0, 0, 0, NULL },
	{ "short", -EINVAL, 0, 0, 0, NULL },
	{ "notnum", -EINVAL, 0, 0, 0, NULL },
	{ "huge", -EINVAL, 0, 0, 0, NULL },
	{ "alice:nogroup", -EINVAL, 0, 0, 0, NULL },
	{ "alice:broken", -EINVAL, 0, 0, 0, NULL },
	{ "alice:-1", -EINVAL, 0, 0, 0, NULL },
};

static void test_table(void **state)
{
	struct user *u = malloc(sizeof(*u));

	(void)state;
	assert_non_null(u);
	for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
		const struct expected *e = &expected[i];
		struct smolvm_error err = SMOLVM_ERROR_INIT;
		int rc = user_resolve(e->spec, passwd, group, u, &err);

		print_message("'%s'\n", e->spec ? e->spec : "(null)");
		assert_int_equal(rc, e->rc);
		if (rc < 0) {
			assert_int_equal(err.code, -rc);
			assert_true(err.message[0]);
			continue;
		}
		assert_int_equal(u->uid, e->uid);
		assert_int_equal(u->gid, e->gid);
		assert_int_equal(u->n_groups, e->n_groups);
		assert_string_equal(u->home, e->home);
	}
	assert_int_equal(user_resolve("alice", passwd, group, u, NULL), 0);
	assert_int_equal(u->groups[0], 29);
	assert_int_equal(u->groups[1], 2000);
	free(u);
}

static void test_no_files(void **state)
{
	struct user *u = malloc(sizeof(*u));

	(void)state;
	assert_non_null(u);
	assert_int_equal(user_resolve(NULL, NULL, NULL, u, NULL), 0);
	assert_int_equal(u->uid, 0);
	assert_string_equal(u->home, "/");
	assert_int_equal(user_resolve("12:34", NULL, NULL, u, NULL), 0);
	assert_int_equal(u->gid, 34);
	assert_int_equal(user_resolve("root", "", "", u, NULL), -EINVAL);
	free(u);
}

static void test_limits(void **state)
{
	struct user *u = malloc(sizeof(*u));
	char *many = malloc(64 * 1024), *name = malloc(USER_NAME_MAX + 1);
	char *home = malloc(USER_HOME_MAX + 64);
	size_t at = 0;

	(void)state;
	assert_true(u && many && name && home);
	for (unsigned int i = 0; i < USER_GROUPS_MAX + 10; i++)
		at += (size_t)sprintf(many + at, "g%u:x:%u:alice\n", i, 5000 + i);
	assert_int_equal(user_resolve("alice", passwd, many, u, NULL), 0);
	assert_int_equal(u->n_groups, USER_GROUPS_MAX);

	memset(name, 'n', USER_NAME_MAX);
	name[USER_NAME_MAX] = '\0';
	assert_int_equal(user_resolve(name, passwd, group, u, NULL), -EINVAL);

	at = (size_t)sprintf(home, "far:x:1:1::/");
	memset(home + at, 'h', USER_HOME_MAX);
	strcpy(home + at + USER_HOME_MAX, ":/bin/sh\n");
	assert_int_equal(user_resolve("far", home, NULL, u, NULL), 0);
	assert_string_equal(u->home, "/");
	free(u);
	free(many);
	free(name);
	free(home);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_no_files),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
