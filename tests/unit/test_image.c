/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image sources: documents, names, archives, and importing through the public calls.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <smolvm/smolvm.h>

#include "base/fd.h"
#include "base/path.h"
#include "image/bundle.h"
#include "image/digest.h"
#include "image/json.h"
#include "image/name.h"
#include "image/oci.h"
#include "image/sniff.h"
#include "store/db.h"
#include "store/store.h"

#define HEX_A  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_A  "sha256:" HEX_A
#define OCI    "application/vnd.oci.image."
#define LAYER  "{\"mediaType\":\"" OCI "layer.v1.tar+gzip\",\"size\":3,\"digest\":\"" SHA_A "\"}"
#define CONFIG "{\"mediaType\":\"" OCI "config.v1+json\",\"size\":3,\"digest\":\"" SHA_A "\"}"

static struct smolvm_error err;
static char home[64];

static int make_home(void **state)
{
	snprintf(home, sizeof(home), "/tmp/smolvm-unit-XXXXXX");
	return mkdtemp(home) ? 0 : -1;
}

static int remove_home(void **state)
{
	return path_remove_tree(home);
}

/* --- a small writer of tar archives --- */

struct archive {
	uint8_t *data;
	size_t len;
};

static void append(struct archive *a, const void *data, size_t len)
{
	size_t padded = (len + 511) / 512 * 512;

	a->data = realloc(a->data, a->len + padded);
	assert_non_null(a->data);
	memset(a->data + a->len, 0, padded);
	memcpy(a->data + a->len, data, len);
	a->len += padded;
}

static void add(struct archive *a, const char *name, char type, const char *link,
		const void *data, size_t len)
{
	char h[512] = "";
	unsigned int sum = 0;

	snprintf(h, 100, "%s", name);
	snprintf(h + 100, 8, "%07o", type == '5' ? 0755 : 0644);
	snprintf(h + 108, 8, "%07o", 0);
	snprintf(h + 116, 8, "%07o", 0);
	snprintf(h + 124, 12, "%011zo", len);
	snprintf(h + 136, 12, "%011o", 1000);
	memset(h + 148, ' ', 8);
	h[156] = type;
	snprintf(h + 157, 100, "%s", link ? link : "");
	memcpy(h + 257, "ustar\00000", 8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	append(a, h, sizeof(h));
	append(a, data, len);
}

static void add_text(struct archive *a, const char *name, const char *text)
{
	add(a, name, '0', NULL, text, strlen(text));
}

static void end(struct archive *a)
{
	char zeros[1024] = "";

	append(a, zeros, sizeof(zeros));
}

static char *save(struct archive *a, const char *name)
{
	char *path = path_join(home, name);
	AUTO_FD fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(fd_write_all(fd, a->data, a->len), 0);
	free(a->data);
	*a = (struct archive){ NULL, 0 };
	return path;
}

/* A docker archive of one image with one layer that holds a file of @text. */
static char *save_docker(const char *name, const char *text, const char *tag)
{
	struct archive layer = { NULL, 0 }, all = { NULL, 0 };
	char config[512], manifest[512], digest[DIGEST_LEN + 1];

	add(&layer, "bin/", '5', NULL, "", 0);
	add_text(&layer, "bin/sh", text);
	end(&layer);
	assert_int_equal(digest_of(layer.data, layer.len, digest, &err), 0);
	snprintf(config, sizeof(config), "{\"os\":\"linux\",\"architecture\":\"%s\",\"config\":"
		 "{\"Cmd\":[\"a\",\"b\"]},\"rootfs\":{\"diff_ids\":[\"%s\"]}}",
		 oci_host_architecture(), digest);
	snprintf(manifest, sizeof(manifest), "[{\"Config\":\"c.json\",\"RepoTags\":[\"%s\"],"
		 "\"Layers\":[\"" HEX_A "/layer.tar\"]}]", tag);
	add(&all, HEX_A "/layer.tar", '0', NULL, layer.data, layer.len);
	add_text(&all, "c.json", config);
	add_text(&all, "manifest.json", manifest);
	end(&all);
	free(layer.data);
	return save(&all, name);
}

/* --- documents --- */

static void digests_have_one_form(void **state)
{
	char digest[DIGEST_LEN + 1];

	assert_int_equal(digest_of("abc", 3, digest, &err), 0);
	assert_string_equal(digest, "sha256:ba7816bf8f01cfea414140de5dae2223"
				    "b00361a396177a9cb410ff61f20015ad");
	assert_true(digest_is_valid(SHA_A));
	assert_false(digest_is_valid(HEX_A));
	assert_false(digest_is_valid(SHA_A "a"));
	assert_false(digest_is_valid("sha256:A" HEX_A));
	assert_false(digest_is_valid("sha256:../../../../../../../../../../../../../../../../../etc"
				     "/passwd/."));
}

static void json_is_read_strictly(void **state)
{
	static const char *const bad[] = {
		"", "{", "[1,]", "{\"a\":1,\"a\":2}", "[] []", "\"x\"", "[\"\\u0000\"]",
		"[\"\xff\"]",
	};
	char *deep = malloc(100000);
	struct json_doc *doc = NULL;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(json_doc_parse(&doc, bad[i], strlen(bad[i]), &err), -EINVAL);
	memset(deep, '[', 100000);
	assert_int_equal(json_doc_parse(&doc, deep, 100000, &err), -EINVAL);
	free(deep);
	assert_int_equal(json_doc_parse(&doc, "{\"a\":[1,null,\"x\"]}", 18, &err), 0);
	assert_null(json_doc_get(NULL, "a"));
	assert_null(json_doc_at(json_doc_get(doc, "a"), 1));
	assert_int_equal(json_doc_int(json_doc_at(json_doc_get(doc, "a"), 0), -1), 1);
	assert_string_equal(json_doc_string(json_doc_at(json_doc_get(doc, "a"), 2)), "x");
	json_doc_free(doc);
}

static int manifest_rc(const char *text)
{
	struct oci_manifest m = { { 0 } };
	int rc = oci_manifest_parse(&m, text, strlen(text), &err);

	oci_manifest_fini(&m);
	return rc;
}

static void manifests_are_checked(void **state)
{
	assert_int_equal(manifest_rc("{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":["
				     LAYER "," LAYER "]}"), 0);
	assert_int_equal(manifest_rc("{\"schemaVersion\":1,\"config\":" CONFIG
				     ",\"layers\":[]}"), -EINVAL);
	assert_int_equal(manifest_rc("{\"schemaVersion\":2,\"config\":" LAYER
				     ",\"layers\":[]}"), -EINVAL);
	assert_int_equal(manifest_rc("{\"schemaVersion\":2,\"config\":" CONFIG
				     ",\"layers\":[" CONFIG "]}"), -EINVAL);
	assert_int_equal(manifest_rc("{\"schemaVersion\":2,\"config\":" CONFIG "}"), -EINVAL);
	assert_int_equal(manifest_rc("{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":[{"
				     "\"mediaType\":\"" OCI "layer.v1.tar\",\"size\":-1,"
				     "\"digest\":\"" SHA_A "\"}]}"), -EINVAL);
	assert_int_equal(manifest_rc("[]"), -EINVAL);
}

static void too_many_layers(void **state)
{
	size_t size = (OCI_LAYERS_MAX + 2) * sizeof(LAYER) + 512;
	char *text = malloc(size);
	size_t n = (size_t)snprintf(text, size, "{\"schemaVersion\":2,\"config\":" CONFIG
				    ",\"layers\":[" LAYER);

	for (int i = 0; i < OCI_LAYERS_MAX; i++)
		n += (size_t)snprintf(text + n, size - n, "," LAYER);
	snprintf(text + n, size - n, "]}");
	assert_int_equal(manifest_rc(text), -EFBIG);
	free(text);
}

static void configurations_are_read(void **state)
{
	static const char text[] = "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{"
		"\"Cmd\":[\"/bin/sh\",\"-c\"],\"Entrypoint\":null,\"Env\":[\"A=1\"],"
		"\"User\":\"u:g\",\"WorkingDir\":\"/w\",\"StopSignal\":\"SIGINT\"},"
		"\"rootfs\":{\"diff_ids\":[\"" SHA_A "\"]}}";
	static const char *const bad[] = {
		"[]", "{\"config\":{\"Cmd\":\"sh\"}}", "{\"config\":{\"Env\":[1]}}",
		"{\"config\":{\"User\":5}}", "{\"rootfs\":{\"diff_ids\":[\"x\"]}}", "{\"os\":[]}",
	};
	struct oci_config c;

	assert_int_equal(oci_config_parse(&c, text, strlen(text), &err), 0);
	assert_string_equal(c.cmd[1], "-c");
	assert_null(c.cmd[2]);
	assert_null(c.entrypoint[0]);
	assert_string_equal(c.env[0], "A=1");
	assert_string_equal(c.user, "u:g");
	assert_string_equal(c.workdir, "/w");
	assert_string_equal(c.stop_signal, "SIGINT");
	assert_int_equal(c.n_diff_ids, 1);
	oci_config_fini(&c);
	assert_int_equal(oci_config_parse(&c, "{}", 2, &err), 0);
	assert_null(c.cmd[0]);
	assert_string_equal(c.user, "");
	oci_config_fini(&c);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(oci_config_parse(&c, bad[i], strlen(bad[i]), &err), -EINVAL);
}

static void names_are_brought_into_one_form(void **state)
{
	static const char *const good[][2] = {
		{ "python", "python:latest" }, { "python:3.11", "python:3.11" },
		{ "docker.io/library/python:3.11", "python:3.11" },
		{ "docker.io/me/x", "me/x:latest" }, { "localhost/x:1", "x:1" },
		{ "localhost:5000/x", "localhost:5000/x:latest" },
		{ "quay.io/a/b:c", "quay.io/a/b:c" },
	};
	static const char *const bad[] = {
		"", ":1", "/x", "x:", "x/", "-x", ".x", "a b", "a\nb", "a@sha256:1", "a#b",
		"\xc3\xbc", "docker.io/library/",
	};
	char name[NAME_LEN_MAX + 1], text[400];
	struct name_list list = { 0 };

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_int_equal(name_normalize(good[i][0], name, &err), 0);
		assert_string_equal(name, good[i][1]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(name_normalize(bad[i], name, &err), -EINVAL);
	memset(text, 'a', sizeof(text));
	text[NAME_LEN_MAX - 7] = '\0';
	assert_int_equal(name_normalize(text, name, &err), 0);
	text[NAME_LEN_MAX - 7] = 'a';
	text[NAME_LEN_MAX - 6] = '\0';
	assert_int_equal(name_normalize(text, name, &err), -EINVAL);
	assert_int_equal(name_list_add(&list, "a/b:1", &err), 0);
	assert_int_equal(name_list_add(&list, "docker.io/a/b:1", &err), 0);
	assert_int_equal(list.n, 1);
	assert_true(name_list_has(&list, "a/b:1"));
	assert_true(name_list_has(&list, "1"));
	assert_false(name_list_has(&list, "b:1"));
	assert_false(name_list_has(&list, "a/b"));
	for (int i = 0; i < NAME_LIST_MAX - 1; i++) {
		snprintf(text, sizeof(text), "n%d", i);
		assert_int_equal(name_list_add(&list, text, &err), 0);
	}
	assert_int_equal(name_list_add(&list, "more", &err), -EFBIG);
	name_list_fini(&list);
}

/* --- bundles --- */

static void links_in_bundles_are_followed(void **state)
{
	struct archive a = { NULL, 0 };
	AUTO_FREE char *path = NULL, *text = NULL;
	struct bundle_file f;
	struct bundle *b;
	AUTO_FD fd = -1;
	size_t len;

	add_text(&a, "./one", "first");
	add_text(&a, "one", "second");
	add(&a, "d/e/sym", '2', "../.././one", "", 0);
	add(&a, "abs", '2', "/d/e/sym", "", 0);
	add(&a, "hard", '1', "./one", "", 0);
	add(&a, "loop", '2', "loop", "", 0);
	add(&a, "nowhere", '2', "missing", "", 0);
	end(&a);
	len = a.len;
	path = save(&a, "a.tar");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(bundle_open_archive(&b, fd, (int64_t)len, home, NULL, &err), 0);
	assert_int_equal(bundle_read(b, "abs", 100, &text, &len, &err), 0);
	assert_string_equal(text, "second"); /* the last of a name counts */
	free(ptr_take(text));
	assert_int_equal(bundle_read(b, "hard", 100, &text, &len, &err), 0);
	assert_string_equal(text, "second");
	free(ptr_take(text));
	assert_int_equal(bundle_read(b, "one", 5, &text, &len, &err), -EFBIG);
	assert_int_equal(bundle_find(b, "loop", &f, &err), -EINVAL);
	assert_int_equal(bundle_find(b, "nowhere", &f, &err), 0);
	assert_int_equal(bundle_find(b, "x", &f, &err), 0);
	bundle_close(b);
}

static void sniffing_knows_what_it_is(void **state)
{
	static const char dockerfile[] = "# syntax=x\r\n\nARG V=1\n  from alpine:$V\n";

	assert_non_null(strstr(sniff_name(dockerfile, strlen(dockerfile)), "Dockerfile"));
	assert_non_null(strstr(sniff_name("RUN x\nFROM y\n", 13), "text"));
	assert_non_null(strstr(sniff_name("", 0), "empty"));
	assert_non_null(strstr(sniff_name("\177ELF\0", 5), "program"));
	assert_true(sniff_is_compressed("\x1f\x8b\x08", 3));
	assert_false(sniff_is_compressed("\x1f", 1));
}

static void plain_tars_are_told_by_their_checksum(void **state)
{
	struct archive a = { NULL, 0 };

	add_text(&a, "x", "y");
	assert_true(bundle_is_plain_tar(a.data, a.len));
	assert_false(bundle_is_plain_tar(a.data, 511));
	a.data[0] = 'y';
	assert_false(bundle_is_plain_tar(a.data, a.len));
	memset(a.data, 0, 512);
	assert_false(bundle_is_plain_tar(a.data, a.len));
	free(a.data);
}

/* --- through the public calls --- */

static struct smolvm *opened(void)
{
	struct smolvm *s = NULL;

	if (smolvm_open(&s, home, &err) < 0)
		fail_msg("%s", err.message);
	return s;
}

static struct smolvm_image *got(struct smolvm *s, const char *what)
{
	struct smolvm_image *image = NULL;

	if (smolvm_image_get(s, what, NULL, &image, &err) < 0)
		fail_msg("%s", err.message);
	return image;
}

static void the_base_image_is_always_there(void **state)
{
	struct smolvm *s = opened();
	struct smolvm_image *a = got(s, NULL), *b = got(s, SMOLVM_IMAGE_BASE);

	assert_string_equal(a->id, b->id);
	assert_string_equal(a->cmd[0], "/bin/sh");
	assert_string_equal(a->names[0], SMOLVM_IMAGE_BASE ":latest");
	assert_int_equal(unlink(a->rootfs_path), 0);
	smolvm_image_free(b);
	b = got(s, NULL); /* made again */
	assert_int_equal(access(b->rootfs_path, R_OK), 0);
	smolvm_image_free(a);
	smolvm_image_free(b);
	smolvm_close(s);
}

static void an_archive_is_imported_once(void **state)
{
	AUTO_FREE char *path = save_docker("d.tar", "x", "docker.io/library/thing:1");
	struct smolvm *s = opened();
	struct smolvm_image *a = got(s, path), *b, **all;
	struct stat before, after;

	assert_string_equal(a->names[0], "thing:1");
	assert_string_equal(a->cmd[1], "b");
	assert_int_equal(stat(a->rootfs_path, &before), 0);
	b = got(s, "thing:1");
	assert_string_equal(a->id, b->id);
	smolvm_image_free(b);
	b = got(s, path);
	assert_int_equal(stat(b->rootfs_path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	smolvm_image_free(b);
	assert_int_equal(smolvm_image_list(s, &all, &err), 1);
	assert_string_equal(all[0]->id, a->id);
	smolvm_image_free_list(all, 1);
	assert_int_equal(smolvm_image_remove(s, "thing:1", &err), 0);
	assert_int_equal(access(a->rootfs_path, F_OK), -1);
	assert_int_equal(smolvm_image_find(s, "thing:1", &b, &err), -ENOENT);
	smolvm_image_free(a);
	smolvm_close(s);
}

static void names_move_and_are_added(void **state)
{
	AUTO_FREE char *one = save_docker("1.tar", "x", "n:1");
	AUTO_FREE char *two = save_docker("2.tar", "y", "n:1");
	struct smolvm_import_options options = { .name = "mine" };
	struct smolvm *s = opened();
	struct smolvm_image *a = got(s, one), *b = got(s, two), *found;

	assert_int_equal(smolvm_image_find(s, "n:1", &found, &err), 0);
	assert_string_equal(found->id, b->id);
	smolvm_image_free(found);
	smolvm_image_free(got(s, one)); /* remembered, and the newest again */
	assert_int_equal(smolvm_image_find(s, "n:1", &found, &err), 0);
	assert_string_equal(found->id, a->id);
	smolvm_image_free(found);
	assert_int_equal(smolvm_image_import(s, two, &options, NULL, &err), 0);
	assert_int_equal(smolvm_image_find(s, "mine", &found, &err), 0);
	assert_string_equal(found->id, b->id);
	smolvm_image_free(found);
	options.name = "not a name";
	assert_int_equal(smolvm_image_import(s, two, &options, NULL, &err), -EINVAL);
	smolvm_image_free(a);
	smolvm_image_free(b);
	smolvm_close(s);
}

static int give_up(void *ctx, uint64_t done, uint64_t total)
{
	uint64_t *seen = ctx;

	*seen = done;
	return 1;
}

static bool is_empty(const char *name)
{
	AUTO_FREE char *path = path_join(home, name);

	return rmdir(path) == 0 && mkdir(path, 0700) == 0;
}

static void an_abandoned_import_leaves_nothing(void **state)
{
	AUTO_FREE char *path = save_docker("d.tar", "x", "n:1");
	uint64_t seen = 0;
	struct smolvm_import_options options = { .progress = give_up, .progress_ctx = &seen };
	struct smolvm *s = opened();
	struct smolvm_image **all = NULL;

	assert_int_equal(smolvm_image_import(s, path, &options, NULL, &err), -ECANCELED);
	assert_true(seen > 0);
	assert_int_equal(smolvm_image_list(s, &all, &err), 0);
	free(all);
	assert_true(is_empty("tmp"));
	assert_true(is_empty("images"));
	smolvm_close(s);
}

static void a_damaged_layer_is_noticed(void **state)
{
	AUTO_FREE char *path = save_docker("d.tar", "the text of a file", "n:1");
	struct smolvm *s = opened();
	AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);

	/* The contents of the first file in the layer: two headers of the layer, one around it. */
	assert_int_equal(fd_pwrite_all(fd, "T", 1, 3 * 512), 0);
	assert_int_equal(smolvm_image_import(s, path, NULL, NULL, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "should be sha256:"));
	assert_true(is_empty("tmp"));
	assert_true(is_empty("images"));
	smolvm_close(s);
}

static void a_folder_is_recognised_until_it_changes(void **state)
{
	AUTO_FREE char *dir = path_join(home, "root"), *bin = path_join(dir, "bin");
	AUTO_FREE char *file = path_join(bin, "sh");
	struct smolvm_image *a, *b, *c;
	struct smolvm *s = opened();

	assert_int_equal(path_make_dirs(bin, 0755), 0);
	a = got(s, dir);
	b = got(s, dir);
	assert_string_equal(a->id, b->id);
	close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0755));
	c = got(s, dir);
	assert_string_not_equal(a->id, c->id);
	smolvm_image_free(a);
	smolvm_image_free(b);
	smolvm_image_free(c);
	smolvm_close(s);
}

static size_t count(struct smolvm *s)
{
	AUTO_FREE char *path = path_join(home, "images");
	struct smolvm_image **all;
	ssize_t n = smolvm_image_list(s, &all, &err);
	DIR *d = opendir(path);
	ssize_t files = -2; /* "." and ".." */

	assert_true(n >= 0 && d);
	while (readdir(d))
		files++;
	closedir(d);
	assert_int_equal(files, n);
	smolvm_image_free_list(all, (size_t)n);
	return (size_t)n;
}

static void a_folder_that_changes_leaves_one_image(void **state)
{
	AUTO_FREE char *one = path_join(home, "one"), *bin = path_join(one, "bin");
	struct smolvm_import_options options = { .name = "kept" };
	struct smolvm *s = opened();

	assert_int_equal(path_make_dirs(bin, 0755), 0);
	for (int i = 0; i < 4; i++) {
		char name[32];
		AUTO_FREE char *file = NULL;

		snprintf(name, sizeof(name), "bin/%d", i);
		file = path_join(one, name);
		close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0755));
		smolvm_image_free(got(s, one));
		assert_int_equal(count(s), 1);
	}
	assert_int_equal(smolvm_image_import(s, one, &options, NULL, &err), 0);
	assert_int_equal(count(s), 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(chmod(one, i ? 0711 : 0700), 0);
		smolvm_image_free(got(s, one));
		assert_int_equal(count(s), 2); /* the named one, and the newest */
	}
	assert_int_equal(smolvm_image_remove(s, "kept", &err), 0);
	assert_int_equal(count(s), 1);
	smolvm_close(s);
}

static void an_archive_overwritten_leaves_one_image(void **state)
{
	struct smolvm *s = opened();

	for (int i = 0; i < 3; i++) {
		char text[2] = { (char)('a' + i), '\0' };
		AUTO_FREE char *path = save_docker("d.tar", text, "thing:1");

		smolvm_image_free(got(s, path));
		assert_int_equal(count(s), 1);
	}
	smolvm_close(s);
}

static void an_older_base_image_goes(void **state)
{
	AUTO_FREE char *path = save_docker("d.tar", "x", "thing:1");
	struct smolvm *s = opened();
	struct smolvm_image *a = got(s, path), *b;

	/* As if it had been the embedded one of another version. */
	assert_true(db_run(s->db, &err, "UPDATE sources SET place = 'embedded'", "") == 1);
	assert_true(db_run(s->db, &err, "UPDATE names SET name = ?", "s",
			   SMOLVM_IMAGE_BASE ":latest") == 1);
	b = got(s, NULL);
	assert_string_not_equal(a->id, b->id);
	assert_int_equal(count(s), 1);
	smolvm_image_free(a);
	smolvm_image_free(b);
	smolvm_close(s);
}

static void errors_say_what_to_do(void **state)
{
	struct smolvm *s = opened();
	struct smolvm_image *image = NULL;

	assert_int_equal(smolvm_image_get(s, "foo", NULL, &image, &err), -ENOENT);
	assert_non_null(strstr(err.message, "does not pull from registries yet"));
	assert_int_equal(smolvm_image_get(s, "./foo", NULL, &image, &err), -ENOENT);
	assert_int_equal(smolvm_image_get(s, "", NULL, &image, &err), -EINVAL);
	assert_int_equal(smolvm_image_get(s, home, NULL, &image, &err), -EINVAL);
	assert_non_null(strstr(err.message, "neither an OCI layout"));
	assert_int_equal(smolvm_image_get(s, "foo", NULL, &image, NULL), -ENOENT);
	assert_int_equal(smolvm_image_get(s, home, NULL, &image, NULL), -EINVAL);
	smolvm_close(s);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, make_home, remove_home)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digests_have_one_form),
		cmocka_unit_test(json_is_read_strictly),
		cmocka_unit_test(manifests_are_checked),
		cmocka_unit_test(too_many_layers),
		cmocka_unit_test(configurations_are_read),
		cmocka_unit_test(names_are_brought_into_one_form),
		cmocka_unit_test(sniffing_knows_what_it_is),
		cmocka_unit_test(plain_tars_are_told_by_their_checksum),
		CASE(links_in_bundles_are_followed),
		CASE(the_base_image_is_always_there),
		CASE(an_archive_is_imported_once),
		CASE(names_move_and_are_added),
		CASE(an_abandoned_import_leaves_nothing),
		CASE(a_damaged_layer_is_noticed),
		CASE(a_folder_is_recognised_until_it_changes),
		CASE(a_folder_that_changes_leaves_one_image),
		CASE(an_archive_overwritten_leaves_one_image),
		CASE(an_older_base_image_goes),
		CASE(errors_say_what_to_do),
	};

	return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
