/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: values, options, and what "sandbox run" makes of them and of an image.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/json_out.h"
#include "cli/run_options.h"
#include "cli/show.h"
#include "cli/suggest.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* ---------------------------------------------------------------- values */

static void test_mib(void **state)
{
	static const struct {
		const char *text;
		char unit;
		uint64_t mib; /* 0: an error */
	} cases[] = {
		{ "512", 'm', 512 },	  { "512m", 'g', 512 },	    { "2g", 'm', 2048 },
		{ "2G", 'm', 2048 },	  { "2GiB", 'm', 2048 },    { "2gb", 'm', 2048 },
		{ "20", 'g', 20480 },	  { "1t", 'm', 1 << 20 },   { "1.5g", 'm', 1536 },
		{ "0.25g", 'm', 256 },	  { "65536k", 'm', 64 },    { "65537k", 'm', 65 },
		{ "63", 'm', 0 },	  { "0", 'm', 0 },	    { "", 'm', 0 },
		{ "-1", 'm', 0 },	  { "1q", 'm', 0 },	    { "512mm", 'm', 0 },
		{ "512 m", 'm', 0 },	  { " 512", 'm', 0 },	    { "g", 'm', 0 },
		{ "1.g", 'm', 0 },	  { ".5g", 'm', 0 },	    { "0x200", 'm', 0 },
		{ "9999t", 'm', 0 },	  { "512i", 'm', 0 },	    { "1e3", 'm', 0 },
		{ "99999999999999999999999999", 'm', 0 }, { "18446744073709551615t", 'm', 0 },
		{ "17592186044416g", 'm', 0 },
	};
	struct smolvm_error err;
	uint64_t mib;
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		err.message[0] = '\0';
		mib = 0;
		r = value_mib(cases[i].text, cases[i].unit, 64, 16 << 20, &mib, &err);
		if (mib != cases[i].mib || (r == 0) != (mib != 0))
			fail_msg("'%s': %d, %llu MiB", cases[i].text, r, (unsigned long long)mib);
		assert_true((r < 0) == (err.message[0] != '\0'));
	}
}

static void test_duration(void **state)
{
	static const struct {
		const char *text;
		int64_t ms; /* 0: an error */
	} cases[] = {
		{ "30s", 30000 },
		{ "30", 30000 },
		{ "5m", 300000 },
		{ "1h30m", 5400000 },
		{ "500ms", 500 },
		{ "1.5s", 1500 },
		{ "1m0.25s", 60250 },
		{ "10000h", 36000000000 },
		{ "1us", 1 },
		{ "0", 0 },
		{ "0s", 0 },
		{ "", 0 },
		{ "s", 0 },
		{ "-1s", 0 },
		{ "10x", 0 },
		{ "soon", 0 },
		{ "1 s", 0 },
		{ "10001h", 0 },
		{ "10000h1us", 0 },
		{ "1.s", 0 },
		{ "99999999999999999999", 0 },
		{ "9999h9999h", 0 },
	};
	struct smolvm_error err;
	int64_t ms;
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		ms = 0;
		r = value_duration_ms(cases[i].text, &ms, &err);
		if (ms != cases[i].ms || (r == 0) != (ms != 0))
			fail_msg("'%s': %d, %lld ms", cases[i].text, r, (long long)ms);
	}
}

static void test_number(void **state)
{
	struct smolvm_error err;
	uint64_t n;

	assert_int_equal(value_number("64", 1, 64, &n, &err), 0);
	assert_int_equal(n, 64);
	assert_int_equal(value_number("65", 1, 64, &n, &err), -ERANGE);
	assert_int_equal(value_number("0", 1, 64, &n, &err), -ERANGE);
	assert_int_equal(value_number("4294967297", 1, 64, &n, &err), -ERANGE);
	assert_int_equal(value_number("1.5", 1, 64, &n, &err), -EINVAL);
	assert_int_equal(value_number("+1", 1, 64, &n, &err), -EINVAL);
	assert_int_equal(value_number("", 1, 64, &n, &err), -EINVAL);
}

/* ---------------------------------------------------------------- volumes */

static void test_volume(void **state)
{
	static const struct {
		const char *text, *host, *guest; /* no host: an error */
		bool read_only;
	} cases[] = {
		{ "/a:/b", "/a", "/b", false },
		{ "/a:/b:ro", "/a", "/b", true },
		{ "/a:/b:rw", "/a", "/b", false },
		{ "/a,b c:/b", "/a,b c", "/b", false },
		{ "~/a:/b", "CWD/~/a", "/b", false },
		{ "./a:/b", "CWD/./a", "/b", false },
		{ "a:/b", "CWD/a", "/b", false },
		{ "/a" }, { "" }, { ":" }, { ":/b" }, { "/a:" }, { "/a:b" }, { "/a:/b:" },
		{ "/a:/b:wx" }, { "/a:b:/c" }, { "/a:/b:ro:ro" }, { "/a:/b:RO" },
	};
	struct volume v;
	struct smolvm_error err;
	char cwd[4096], want[8192];
	size_t i;

	assert_non_null(getcwd(cwd, sizeof(cwd)));
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (value_volume(cases[i].text, &v, &err)) {
			if (cases[i].host)
				fail_msg("'%s': %s", cases[i].text, err.message);
			continue;
		}
		if (!cases[i].host)
			fail_msg("'%s' is taken for %s at %s", cases[i].text, v.host, v.guest);
		if (!strncmp(cases[i].host, "CWD", 3))
			snprintf(want, sizeof(want), "%s%s", cwd, cases[i].host + 3);
		else
			snprintf(want, sizeof(want), "%s", cases[i].host);
		assert_string_equal(v.host, want);
		assert_string_equal(v.guest, cases[i].guest);
		assert_int_equal(v.read_only, cases[i].read_only);
		volume_fini(&v);
	}
	assert_int_equal(value_volume("/a:b:/c", &v, &err), -EINVAL);
	assert_non_null(strstr(err.message, "--mount"));
}

static void test_mount(void **state)
{
	static const struct {
		const char *text, *host, *guest;
		bool read_only;
	} cases[] = {
		{ "type=bind,source=/a,target=/b", "/a", "/b", false },
		{ "src=/a:x,dst=/b", "/a:x", "/b", false },
		{ "readonly,dst=/b,src=/a", "/a", "/b", true },
		{ "ro=true,dst=/b,src=/a", "/a", "/b", true },
		{ "ro=0,destination=/b,src=/a", "/a", "/b", false },
		{ "\"src=/a,b\",dst=/b", "/a,b", "/b", false },
		{ "src=\"/a,b\",dst=/b", "/a,b", "/b", false },
		{ "\"src=/a\"\"b\",dst=/b", "/a\"b", "/b", false },
		{ "src=/a=b,dst=/b", "/a=b", "/b", false },
		{ "" }, { "type=bind" }, { "src=/a" }, { "dst=/b" }, { "src=/a,dst=b" },
		{ "type=volume,src=/a,dst=/b" }, { "type=tmpfs,dst=/b" }, { "type,src=/a,dst=/b" },
		{ "src=/a,dst=/b,src=/c" }, { "src=/a,dst=/b,ro=maybe" }, { "src=/a,dst=/b,x=y" },
		{ "\"src=/a,dst=/b" }, { "src=,dst=/b" }, { "src=/a,dst=" }, { "src,dst=/b" },
		{ ",,," }, { "src=/a,dst=/b,," },
	};
	struct volume v;
	struct smolvm_error err;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (value_mount(cases[i].text, &v, &err)) {
			if (cases[i].host)
				fail_msg("'%s': %s", cases[i].text, err.message);
			continue;
		}
		if (!cases[i].host)
			fail_msg("'%s' is taken for %s at %s", cases[i].text, v.host, v.guest);
		assert_string_equal(v.host, cases[i].host);
		assert_string_equal(v.guest, cases[i].guest);
		assert_int_equal(v.read_only, cases[i].read_only);
		volume_fini(&v);
	}
}

static void test_mount_is_bounded(void **state)
{
	struct smolvm_error err;
	struct volume v;
	char *text = malloc(1 << 20);

	memset(text, 'x', 1 << 20);
	text[(1 << 20) - 1] = '\0';
	assert_int_equal(value_mount(text, &v, &err), -EFBIG);
	free(text);
}

/* ---------------------------------------------------------------- environments */

static char *write_file(const char *data, size_t len)
{
	static char path[64];
	int fd;

	snprintf(path, sizeof(path), "/tmp/test_cli_options.XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
	return path;
}

static int read_env(const char *data, size_t len, struct strings *env, struct smolvm_error *err)
{
	char *path = write_file(data, len);
	int r = env_file_read(path, env, err);

	unlink(path);
	return r;
}

static void test_env_file(void **state)
{
	static const char text[] =
		"\xef\xbb\xbf# comment\n\n  A=1\r\nB= two words \nC=\"q\"\nHERE\n"
		"E=\n#x\nLAST=1=2";
	static const char *const want[] = { "A=1", "B= two words ", "C=\"q\"", "HERE", "E=",
					    "LAST=1=2" };
	struct strings env = { 0 };
	struct smolvm_error err;
	size_t i;

	assert_int_equal(read_env(text, sizeof(text) - 1, &env, &err), 0);
	assert_int_equal(env.n, ARRAY_SIZE(want));
	for (i = 0; i < env.n; i++)
		assert_string_equal(env.items[i], want[i]);
	assert_null(env.items[env.n]);
	strings_fini(&env);
}

static void test_env_file_errors(void **state)
{
	struct strings env = { 0 };
	struct smolvm_error err;
	char *big = calloc(1, ENV_FILE_MAX_BYTES + 1);

	assert_int_equal(read_env("A=1\nB C=1\n", 10, &env, &err), -EINVAL);
	assert_non_null(strstr(err.message, "line 2"));
	assert_int_equal(read_env("=1\n", 3, &env, &err), -EINVAL);
	assert_int_equal(read_env("A=1\0\n", 5, &env, &err), -EINVAL);
	memset(big, 'x', ENV_FILE_MAX_BYTES + 1);
	assert_int_equal(read_env(big, ENV_FILE_MAX_BYTES + 1, &env, &err), -EFBIG);
	assert_int_equal(read_env(big, ENV_FILE_MAX_BYTES, &env, &err), 0);
	assert_int_equal(env_file_read("/nowhere", &env, &err), -ENOENT);
	assert_int_equal(env_file_read("/", &env, &err), -EISDIR);
	free(big);
	strings_fini(&env);
}

static void test_env_set(void **state)
{
	struct strings env = { 0 };
	char entry[32];
	int i;

	setenv("TEST_SET", "here", 1);
	unsetenv("TEST_UNSET");
	assert_int_equal(env_set(&env, "A=1", NULL), 0);
	assert_int_equal(env_set(&env, "AB=2", NULL), 0);
	assert_int_equal(env_set(&env, "A=3=4", NULL), 0);
	assert_int_equal(env.n, 2);
	assert_string_equal(env_get(&env, "A"), "3=4");
	assert_string_equal(env_get(&env, "AB"), "2");
	assert_int_equal(env_set(&env, "TEST_SET", NULL), 0);
	assert_string_equal(env_get(&env, "TEST_SET"), "here");
	assert_int_equal(env_set(&env, "TEST_UNSET=x", NULL), 0);
	assert_int_equal(env_set(&env, "TEST_UNSET", NULL), 0);
	assert_null(env_get(&env, "TEST_UNSET"));
	assert_int_equal(env.n, 3);
	assert_null(env.items[env.n]);
	for (i = 0; i < (int)ENV_MAX - 3; i++) {
		snprintf(entry, sizeof(entry), "V%d=", i);
		assert_int_equal(env_set(&env, entry, NULL), 0);
	}
	assert_int_equal(env_set(&env, "ONE_MORE=", NULL), -E2BIG);
	assert_int_equal(env_set(&env, "A=again", NULL), 0);
	strings_fini(&env);
}

/* ---------------------------------------------------------------- options */

struct parsed {
	struct run_values v;
	struct arguments args;
	struct run_words words;
	struct smolvm_error err;
	char *argv[32];
	int r;
};

/* Parses words that are apart by '|'. */
static struct parsed *parse(struct parsed *p, const char *line, bool stop_at_first)
{
	static char copy[1024];
	char *rest = copy;
	size_t n = 0;

	memset(p, 0, sizeof(*p));
	snprintf(copy, sizeof(copy), "%s", line);
	while (*line && n < 31)
		if (!(p->argv[n++] = strsep(&rest, "|")) || !rest)
			break;
	p->r = options_parse(run_options, stop_at_first, p->argv, &p->v, &p->args, &p->err);
	if (p->r == 0)
		run_words(&p->args, &p->words);
	return p;
}

static void test_options(void **state)
{
	struct parsed p;

	parse(&p, "-it|-eA=1|-e|B=2|-e=C=3|--env=D=4|--env|E|--cpus=2|--mem|2g|-m512|--name|-x|"
	      "--timing|-v/a:/b|--mount|src=/c,dst=/d|-v|/e:/f:ro|alpine|-e|ls", true);
	assert_int_equal(p.r, 0);
	assert_true(p.v.interactive && p.v.tty && !p.v.quiet);
	assert_int_equal(p.v.env.n, 5);
	assert_string_equal(p.v.env.items[2], "C=3");
	assert_string_equal(p.v.env.items[4], "E");
	assert_int_equal(p.v.cpus, 2);
	assert_int_equal(p.v.memory_mib, 512);
	assert_string_equal(p.v.name, "-x");
	assert_string_equal(p.v.timing, "");
	assert_int_equal(p.v.n_volumes, 3);
	assert_string_equal(p.v.volumes[1].host, "/c");
	assert_true(p.v.volumes[2].read_only);
	assert_string_equal(p.words.image, "alpine");
	assert_int_equal(p.words.n_command, 2);
	assert_string_equal(p.words.command[0], "-e");
	run_values_fini(&p.v);
}

static void test_options_anywhere(void **state)
{
	struct parsed p;

	parse(&p, "a|-q|b|--read-only|-|--|-i", false);
	assert_int_equal(p.r, 0);
	assert_true(p.v.quiet && p.v.read_only && !p.v.interactive);
	assert_int_equal(p.args.n, 4);
	assert_string_equal(p.args.items[2], "-");
	assert_string_equal(p.args.items[3], "-i");
	assert_null(p.args.items[4]);
	assert_false(p.args.separated);
}

static void test_option_errors(void **state)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{ "--cpu|2", "did you mean --cpus" },
		{ "--storag=2", "did you mean --storage" },
		{ "--ttty", "did you mean --tty" },
		{ "--no-such-thing", "--help" },
		{ "-Z", "-Z" },
		{ "-iZ", "-Z" },
		{ "--cpus", "--cpus N" },
		{ "-e", "-e NAME" },
		{ "--tty=yes", "takes no value" },
		{ "--cpus=0", "--cpus: 0" },
		{ "--cpus|99", "1 to 64" },
		{ "--mem|1", "64m" },
		{ "--timeout=0", "--timeout" },
		{ "--timing=xml", "json" },
		{ "-w|x", "--workdir" },
		{ "-p|80:80", "networking is not in this version" },
		{ "--net", "networking is not in this version" },
		{ "--net=nic", "networking is not in this version" },
		{ "-e|=x", "--env" },
		{ "-v|x", "--volume" },
	};
	struct parsed p;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		parse(&p, cases[i].line, true);
		if (p.r >= 0 || !strstr(p.err.message, cases[i].says))
			fail_msg("'%s': %d, %s", cases[i].line, p.r, p.err.message);
		run_values_fini(&p.v);
	}
	assert_int_equal(parse(&p, "-i|--help", true)->r, OPTIONS_HELP);
	assert_int_equal(parse(&p, "-ih", true)->r, OPTIONS_HELP);
}

static void test_too_many_volumes(void **state)
{
	char *argv[2 * (VOLUMES_MAX + 1) + 1];
	struct run_values v = { 0 };
	struct smolvm_error err;
	struct arguments args;
	size_t i;

	for (i = 0; i <= VOLUMES_MAX; i++) {
		argv[2 * i] = (char *)"-v";
		argv[2 * i + 1] = (char *)"/a:/b";
	}
	argv[2 * i] = NULL;
	assert_int_equal(options_parse(run_options, true, argv, &v, &args, &err), -E2BIG);
	assert_int_equal(v.n_volumes, VOLUMES_MAX);
	run_values_fini(&v);
}

static void test_words(void **state)
{
	static const struct {
		const char *line, *image, *first;
		size_t n;
	} cases[] = {
		{ "--|uname|-a", NULL, "uname", 2 },
		{ "-i|--|uname|--|x", NULL, "uname", 3 },
		{ "img", "img", NULL, 0 },
		{ "img|--", "img", NULL, 0 },
		{ "img|cmd|-x", "img", "cmd", 2 },
		{ "img|--|cmd", "img", "cmd", 1 },
		{ "img|--|--|cmd", "img", "--", 2 },
		{ "img|cmd|--|x", "img", "cmd", 3 },
		{ "-|cmd", "-", "cmd", 1 },
		{ "-i", NULL, NULL, 0 },
		{ "--", NULL, NULL, 0 },
	};
	struct parsed p;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		parse(&p, cases[i].line, true);
		assert_int_equal(p.r, 0);
		if (cases[i].image)
			assert_string_equal(p.words.image, cases[i].image);
		else
			assert_null(p.words.image);
		assert_int_equal(p.words.n_command, cases[i].n);
		if (cases[i].first)
			assert_string_equal(p.words.command[0], cases[i].first);
	}
}

/* ---------------------------------------------------------------- what is run */

static const char *const no_words[] = { NULL };
static const char *const image_entrypoint[] = { "entry", "-e", NULL };
static const char *const image_cmd[] = { "cmd", NULL };
static const char *const image_env[] = { "PATH=/bin", "A=image", "=x", "HOME", NULL };

static const struct smolvm_image full_image = {
	.entrypoint = image_entrypoint, .cmd = image_cmd, .env = image_env,
	.workdir = "/work", .user = "app",
};
static const struct smolvm_image empty_image = {
	.entrypoint = no_words, .cmd = no_words, .env = no_words, .workdir = "", .user = "",
};

static void check_argv(const char *line, const struct smolvm_image *image, const char *want)
{
	struct parsed p;
	struct run_plan plan;
	char joined[256] = "";
	size_t i;
	int r;

	parse(&p, line, true);
	assert_int_equal(p.r, 0);
	r = run_plan_make(&plan, &p.v, &p.words, image, &p.err);
	for (i = 0; i < plan.argv.n; i++) {
		strcat(joined, i ? " " : "");
		strcat(joined, plan.argv.items[i]);
	}
	assert_string_equal(joined, want);
	assert_int_equal(r, *want ? 0 : -EINVAL);
	run_plan_fini(&plan);
	run_values_fini(&p.v);
}

static void test_plan_argv(void **state)
{
	check_argv("img", &full_image, "entry -e cmd");
	check_argv("img|x|y", &full_image, "entry -e x y");
	check_argv("--entrypoint|sh|img", &full_image, "sh");
	check_argv("--entrypoint|sh|img|-c|x", &full_image, "sh -c x");
	check_argv("--entrypoint=|img|x", &full_image, "x");
	check_argv("--entrypoint=|img", &full_image, "");
	check_argv("img", &empty_image, "");
	check_argv("img|x", &empty_image, "x");
	check_argv("--|x", &empty_image, "x");
}

static void test_plan_env(void **state)
{
	struct parsed p;
	struct run_plan plan;
	char line[128];
	char *path = write_file("A=file\nB=file\n", 14);

	setenv("TERM", "test-term", 1);
	snprintf(line, sizeof(line), "-t|-e|B=option|--env-file|%s|-e|C=1|img", path);
	parse(&p, line, true);
	unlink(path);
	assert_int_equal(p.r, 0);
	assert_int_equal(run_plan_make(&plan, &p.v, &p.words, &full_image, &p.err), 0);
	assert_string_equal(env_get(&plan.env, "PATH"), "/bin");
	assert_string_equal(env_get(&plan.env, "A"), "file");
	assert_string_equal(env_get(&plan.env, "B"), "option");
	assert_string_equal(env_get(&plan.env, "C"), "1");
	assert_string_equal(env_get(&plan.env, "TERM"), "test-term");
	assert_null(env_get(&plan.env, "HOME")); /* an image takes nothing from here */
	assert_int_equal(plan.env.n, 5);
	assert_string_equal(plan.cwd, "/work");
	assert_string_equal(plan.user, "app");
	run_plan_fini(&plan);
	run_values_fini(&p.v);
}

/* ---------------------------------------------------------------- output */

static void test_json(void **state)
{
	static const char *const items[] = { "a", "b", NULL };
	struct json_out j = { 0 };
	char *text = NULL;
	size_t len;

	j.f = open_memstream(&text, &len);
	json_open(&j, NULL, '{');
	json_string(&j, "s",
		    "\"\\\n\t\x01\x7f\xc3\xa4\xff\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82");
	json_number(&j, "n", INT64_MIN);
	json_bool(&j, "b", true);
	json_string(&j, "z", NULL);
	json_strings(&j, "l", items);
	json_strings(&j, "e", no_words);
	json_close(&j, '}');
	fclose(j.f);
	assert_string_equal(text,
		"{\n  \"s\": \"\\\"\\\\\\n\\t\\u0001\\u007f\xc3\xa4"
		"\xef\xbf\xbd" "\xef\xbf\xbd\xef\xbf\xbd" "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
		"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" "\xef\xbf\xbd\xef\xbf\xbd\",\n"
		"  \"n\": -9223372036854775808,\n  \"b\": true,\n  \"z\": null,\n"
		"  \"l\": [\n    \"a\",\n    \"b\"\n  ],\n  \"e\": []\n}\n");
	free(text);
}

static void test_amounts(void **state)
{
	char size[16], age[32];

	assert_string_equal(show_size(size, 0), "0 B");
	assert_string_equal(show_size(size, 999), "999 B");
	assert_string_equal(show_size(size, 1000), "1.0 kB");
	assert_string_equal(show_size(size, 7123456), "7.1 MB");
	assert_string_equal(show_size(size, 999999), "1.0 MB");
	assert_string_equal(show_size(size, UINT64_MAX), "18.4 EB");
	assert_string_equal(show_age(age, 100, 100), "just now");
	assert_string_equal(show_age(age, 200, 100), "just now");
	assert_string_equal(show_age(age, 99, 100), "1 second ago");
	assert_string_equal(show_age(age, 0, 3 * 3600 + 5), "3 hours ago");
	assert_string_equal(show_age(age, 0, 13 * 86400), "1 week ago");
}

static void test_text_is_tame(void **state)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	show_text(f, "a\x1b[31m\n\x7f" "b\xc2\x9b" "c\xc3\xa4");
	fclose(f);
	assert_string_equal(text, "a?[31m??b?c\xc3\xa4");
	free(text);
}

static void test_suggestions(void **state)
{
	struct suggestion s;
	char big[128];

	assert_int_equal(suggest_distance("", ""), 0);
	assert_int_equal(suggest_distance("abc", "abc"), 0);
	assert_int_equal(suggest_distance("abc", "acb"), 1);
	assert_int_equal(suggest_distance("abc", ""), 3);
	assert_int_equal(suggest_distance("kitten", "sitting"), 3);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	suggestion_init(&s, big);
	suggestion_try(&s, "doctor");
	assert_null(s.best);
	suggestion_init(&s, "docotr");
	suggestion_try(&s, "version");
	suggestion_try(&s, "doctor");
	assert_string_equal(s.best, "doctor");
	suggestion_init(&s, "x");
	suggestion_try(&s, "rm");
	assert_null(s.best);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mib),
		cmocka_unit_test(test_duration),
		cmocka_unit_test(test_number),
		cmocka_unit_test(test_volume),
		cmocka_unit_test(test_mount),
		cmocka_unit_test(test_mount_is_bounded),
		cmocka_unit_test(test_env_file),
		cmocka_unit_test(test_env_file_errors),
		cmocka_unit_test(test_env_set),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_options_anywhere),
		cmocka_unit_test(test_option_errors),
		cmocka_unit_test(test_too_many_volumes),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_plan_argv),
		cmocka_unit_test(test_plan_env),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_amounts),
		cmocka_unit_test(test_text_is_tame),
		cmocka_unit_test(test_suggestions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
