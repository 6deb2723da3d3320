/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers to an image: archives made here, read back by a small reader of EROFS.
 *
 * A layer is written as text, one entry a line: a letter, a path, and more by the letter:
 *	d PATH MODE | f PATH CONTENTS | l PATH TARGET | h PATH TARGET | p PATH
 * and so is what the image must hold, in order: "PATH MODE/" for directories, "PATH=CONTENTS" (with
 * "*N" behind it for N names), "PATH>TARGET", "PATH|".
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "image/rootfs.h"

#define BLOCK 512u

/* --- archives --- */

struct archive {
	uint8_t *data;
	size_t len, cap;
};

static void put(struct archive *a, const void *data, size_t len)
{
	size_t padded = (len + BLOCK - 1) / BLOCK * BLOCK;

	while (a->len + padded > a->cap) {
		a->cap = a->cap ? 2 * a->cap : 65536;
		a->data = realloc(a->data, a->cap);
		assert_non_null(a->data);
	}
	if (len)
		memcpy(a->data + a->len, data, len);
	memset(a->data + a->len + len, 0, padded - len);
	a->len += padded;
}

static void put_header(struct archive *a, const char *path, char type, unsigned int mode,
		       const char *link, uint64_t size)
{
	uint8_t h[BLOCK] = { 0 };
	unsigned int sum = 0, i;
	char number[24];

	assert_true(strlen(path) <= 100 && strlen(link) <= 100);
	memcpy(h, path, strlen(path));
	memcpy(h + 157, link, strlen(link));
	snprintf(number, sizeof(number), "%07o", mode);
	memcpy(h + 100, number, 7);
	memcpy(h + 108, "0000000", 7);
	memcpy(h + 116, "0000000", 7);
	snprintf(number, sizeof(number), "%011llo", (unsigned long long)size);
	memcpy(h + 124, number, 11);
	memcpy(h + 136, "00000000012", 11);
	h[156] = (uint8_t)type;
	memcpy(h + 257, "ustar\00000", 8);
	memset(h + 148, ' ', 8);
	for (i = 0; i < BLOCK; i++)
		sum += h[i];
	snprintf(number, sizeof(number), "%06o", sum);
	memcpy(h + 148, number, 7);
	put(a, h, sizeof(h));
}

static void put_entry(struct archive *a, const char *path, char type, unsigned int mode,
		      const char *link, const void *data, size_t len)
{
	put_header(a, path, type, mode, link, len);
	put(a, data, len);
}

static size_t record(char *buf, size_t size, const char *key, const void *value, size_t value_len)
{
	size_t body = 1 + strlen(key) + 1 + value_len + 1, len = body + 1;
	int n;

	while (len != body + (size_t)snprintf(NULL, 0, "%zu", len))
		len++;
	assert_true(len <= size);
	n = snprintf(buf, size, "%zu %s=", len, key);
	memcpy(buf + n, value, value_len);
	buf[(size_t)n + value_len] = '\n';
	return len;
}

/* An extended header of one record, for the entry that follows. */
static void put_pax(struct archive *a, const char *key, const void *value, size_t value_len)
{
	char buf[8192];

	put_entry(a, "PaxHeaders/x", 'x', 0644, "", buf,
		  record(buf, sizeof(buf), key, value, value_len));
}

/* Of two records. */
static void put_pax2(struct archive *a, const char *key1, const void *value1, size_t len1,
		     const char *key2, const char *value2)
{
	char buf[8192];
	size_t n = record(buf, sizeof(buf), key1, value1, len1);

	n += record(buf + n, sizeof(buf) - n, key2, value2, strlen(value2));
	put_entry(a, "PaxHeaders/x", 'x', 0644, "", buf, n);
}

static void put_end(struct archive *a)
{
	static const uint8_t zeroes[2 * BLOCK];

	put(a, zeroes, sizeof(zeroes));
}

static void put_line(struct archive *a, char *line)
{
	char *save, *kind = strtok_r(line, " ", &save);
	const char *path = strtok_r(NULL, " ", &save), *arg = strtok_r(NULL, "", &save);

	assert_non_null(path);
	arg = arg ? arg : "";
	switch (kind[0]) {
	case 'd':
		put_entry(a, path, '5', *arg ? (unsigned int)strtoul(arg, NULL, 8) : 0755, "", "",
			  0);
		break;
	case 'f':
		put_entry(a, path, '0', 0644, "", arg, strlen(arg));
		break;
	case 'l':
		put_entry(a, path, '2', 0777, arg, "", 0);
		break;
	case 'h':
		put_entry(a, path, '1', 0644, arg, "", 0);
		break;
	default:
		put_entry(a, path, '6', 0644, "", "", 0);
	}
}

static struct archive make(const char *text)
{
	AUTO_FREE char *copy = strdup(text);
	struct archive a = { 0 };
	char *save, *line;

	for (line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		put_line(&a, line);
	put_end(&a);
	return a;
}

/* --- a source of bytes --- */

struct input {
	const uint8_t *data;
	size_t len, at, piece, skipped;
	int fail; /* an errno instead of the end */
};

static ssize_t input_read(void *ctx, const void **ret, struct smolvm_error *err)
{
	struct input *in = ctx;
	size_t n = in->len - in->at < in->piece ? in->len - in->at : in->piece;

	if (n == 0 && in->fail) {
		err->code = in->fail;
		strcpy(err->message, "the source broke");
		return -in->fail;
	}
	*ret = in->data + in->at;
	in->at += n;
	return (ssize_t)n;
}

static int64_t input_skip(void *ctx, int64_t n)
{
	struct input *in = ctx;

	if ((uint64_t)n > in->len - in->at)
		n = (int64_t)(in->len - in->at);
	in->at += (size_t)n;
	in->skipped += (size_t)n;
	return n;
}

static struct input input_of(const struct archive *a)
{
	return (struct input){ .data = a->data, .len = a->len, .piece = 1000 };
}

static int add_input(struct rootfs *r, struct input *in, bool whiteouts, struct smolvm_error *err)
{
	const struct tar_source source = { input_read, input_skip, in };
	struct tar *t = NULL;
	int rc = tar_open(&t, &source, err);

	if (rc == 0)
		rc = rootfs_add_layer(r, t, whiteouts, err);
	tar_close(t);
	return rc;
}

/* --- images --- */

struct image {
	uint8_t *data;
	uint64_t len;
};

static struct rootfs *begin(int *ret_fd, const struct rootfs_limits *limits)
{
	struct rootfs *r = NULL;

	*ret_fd = fd_memfd("image");
	assert_true(*ret_fd >= 0);
	assert_int_equal(rootfs_create(&r, *ret_fd, "/tmp", limits, NULL), 0);
	return r;
}

static struct image end(struct rootfs *r, int fd)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct image im;

	if (rootfs_finish(r, &im.len, &err) < 0)
		fail_msg("%s", err.message);
	rootfs_destroy(r);
	assert_int_equal(lseek(fd, 0, SEEK_END), im.len);
	im.data = mmap(NULL, im.len, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(im.data, MAP_FAILED);
	close(fd);
	return im;
}

static struct image build(const struct archive *layers, size_t n)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct rootfs *r;
	size_t i;
	int fd;

	r = begin(&fd, NULL);
	for (i = 0; i < n; i++) {
		struct input in = input_of(&layers[i]);

		if (add_input(r, &in, true, &err) < 0)
			fail_msg("layer %zu: %s", i, err.message);
		assert_int_equal(in.at, in.len);
	}
	return end(r, fd);
}

static uint64_t le(const struct image *im, uint64_t at, unsigned int bytes)
{
	uint64_t v = 0;

	assert_true(at + bytes <= im->len);
	while (bytes-- > 0)
		v = v << 8 | im->data[at + bytes];
	return v;
}

struct file {
	uint64_t at, size, xattrs;
	unsigned int mode, nlink;
};

static struct file file_at(const struct image *im, uint64_t nid)
{
	struct file f = { .at = le(im, 1024 + 40, 4) * 4096 + nid * 32 };

	f.mode = (unsigned int)le(im, f.at + 4, 2);
	f.size = le(im, f.at + 8, 8);
	f.nlink = (unsigned int)le(im, f.at + 44, 4);
	f.xattrs = le(im, f.at + 2, 2);
	f.xattrs = f.xattrs ? 12 + 4 * (f.xattrs - 1) : 0;
	return f;
}

static const uint8_t *block_of(const struct image *im, const struct file *f, uint64_t n)
{
	uint64_t left = f->size - n * 4096;

	if (le(im, f->at, 2) == 5 && left <= 4096)
		return im->data + f->at + 64 + f->xattrs;
	return im->data + (le(im, f->at + 16, 4) + n) * 4096;
}

static char *contents(const struct image *im, const struct file *f)
{
	char *data = calloc(1, f->size + 1);
	uint64_t n;

	assert_non_null(data);
	for (n = 0; n * 4096 < f->size; n++)
		memcpy(data + n * 4096, block_of(im, f, n),
		       f->size - n * 4096 < 4096 ? f->size - n * 4096 : 4096);
	return data;
}

/* Entries of a directory: called for each but the dots. */
static void each(const struct image *im, const struct file *d, const char *path,
		 void (*fn)(const struct image *, const char *path, const struct file *, void *),
		 void *ctx)
{
	uint64_t n;

	for (n = 0; n * 4096 < d->size; n++) {
		const uint8_t *b = block_of(im, d, n);
		uint64_t base = (uint64_t)(b - im->data), left = d->size - n * 4096, i;
		uint64_t count = le(im, base + 8, 2) / 12;

		left = left < 4096 ? left : 4096;
		for (i = 0; i < count; i++) {
			uint64_t from = le(im, base + 12 * i + 8, 2);
			uint64_t to = i + 1 < count ? le(im, base + 12 * i + 20, 2) : left;
			struct file f = file_at(im, le(im, base + 12 * i, 8));
			size_t len = strnlen((const char *)b + from, to - from);
			char inner[4096];

			snprintf(inner, sizeof(inner), "%s%s%.*s", path, *path ? "/" : "", (int)len,
				 b + from);
			if (strcmp(inner + strlen(inner) - len, ".") &&
			    strcmp(inner + strlen(inner) - len, ".."))
				fn(im, inner, &f, ctx);
		}
	}
}

static void show(const struct image *im, const char *path, const struct file *f, void *ctx)
{
	FILE *out = ctx;

	if (S_ISDIR(f->mode)) {
		fprintf(out, "%s %o/\n", path, f->mode & 07777);
		each(im, f, path, show, out);
	} else if (S_ISREG(f->mode) || S_ISLNK(f->mode)) {
		AUTO_FREE char *data = contents(im, f);

		fprintf(out, "%s%c%s", path, S_ISREG(f->mode) ? '=' : '>', data);
		if (f->nlink > 1)
			fprintf(out, "*%u", f->nlink);
		fprintf(out, "\n");
	} else {
		fprintf(out, "%s|\n", path);
	}
}

static char *list(const struct image *im)
{
	struct file root = file_at(im, le(im, 1024 + 14, 2));
	size_t len;
	char *text;
	FILE *out = open_memstream(&text, &len);

	each(im, &root, "", show, out);
	fclose(out);
	return text;
}

struct search {
	const char *path;
	struct file *ret;
};

static void match(const struct image *im, const char *path, const struct file *f, void *ctx)
{
	const struct search *s = ctx;

	if (!strcmp(path, s->path))
		*s->ret = *f;
	else if (S_ISDIR(f->mode) && !strncmp(path, s->path, strlen(path)))
		each(im, f, path, match, ctx);
}

static struct file find(const struct image *im, const char *path)
{
	struct file root = file_at(im, le(im, 1024 + 14, 2)), f = { 0 };
	struct search s = { path, &f };

	each(im, &root, "", match, &s);
	return f;
}

/* --- what layers do to each other --- */

static const struct layers {
	const char *name;
	const char *layer[3];
	const char *want;
} layer_cases[] = {
	{ "one layer", { "d a 700\nf a/f hello\nl a/l f\np a/p\nh b a/f\n" },
	  "a 700/\na/f=hello*2\na/l>f\na/p|\nb=hello*2\n" },
	{ "prefixes", { "d ./\nd ./a/\nf ./a/b 1\nf /c 2\nf a//d 3\nf a/./e 4\n" },
	  "a 755/\na/b=1\na/d=3\na/e=4\nc=2\n" },
	{ "parents missing", { "f a/b/c 1\n" }, "a 755/\na/b 755/\na/b/c=1\n" },
	{ "directory after its contents", { "f a/b 1\nd a 711\n" }, "a 711/\na/b=1\n" },
	{ "the last one wins", { "f a 1\nf a 2\nl b x\np b\n" }, "a=2\nb|\n" },
	{ "file over directory", { "d a\nf a/b 1\nf a/c/d 1\n", "f a 2\n" }, "a=2\n" },
	{ "directory entry over file", { "f a 1\n", "d a\nf a/b 2\n" }, "a 755/\na/b=2\n" },
	{ "directory over link", { "d a\nf a/x 1\nl b a\n", "d b 700\nf b/y 2\n" },
	  "a 755/\na/x=1\nb 700/\nb/y=2\n" },
	{ "metadata only", { "d a 700\nf a/x 1\n", "d a 711\n" }, "a 711/\na/x=1\n" },
	{ "whiteout", { "f a 1\nf b 2\n", "f .wh.a\n" }, "b=2\n" },
	{ "whiteout of nothing there", { "f a 1\n", "f .wh.x\nf y/.wh.x\n" }, "a=1\n" },
	{ "whiteout of a directory", { "f a/b/c 1\nf d 2\n", "f .wh.a\n" }, "d=2\n" },
	{ "whiteout, then again", { "f a/old 1\n", "f .wh.a\nd a 700\nf a/new 2\n" },
	  "a 700/\na/new=2\n" },
	{ "again, then whiteout", { "f a/old 1\n", "d a 700\nf a/new 2\nf .wh.a\n" },
	  "a 700/\na/new=2\n" },
	{ "whiteout below which is new", { "d a 700\nf a/b/old 1\n", "f a/b/new 2\nf .wh.a\n" },
	  "a 755/\na/b 755/\na/b/new=2\n" },
	{ "whiteout of this layer's file", { "f a 1\n", "f a 2\nf .wh.a\n" }, "a=2\n" },
	{ "opaque first", { "d a 700\nf a/b 1\nf a/c/d 1\n", "f a/.wh..wh..opq\nf a/e 2\n" },
	  "a 700/\na/e=2\n" },
	{ "opaque last", { "d a 700\nf a/b 1\nf a/c/d 1\n", "f a/e 2\nf a/.wh..wh..opq\n" },
	  "a 700/\na/e=2\n" },
	{ "opaque between", { "f a/b 1\n", "f a/x 2\nf a/.wh..wh..opq\nf a/b 3\n" },
	  "a 755/\na/b=3\na/x=2\n" },
	{ "opaque twice", { "f a/b 1\n", "f a/.wh..wh..opq\nf a/c 2\nf a/.wh..wh..opq\n" },
	  "a 755/\na/c=2\n" },
	{ "opaque in a layer, and the next", { "f a/b 1\n", "f a/.wh..wh..opq\nf a/c 2\n",
					       "f a/.wh..wh..opq\nf a/d 3\n" },
	  "a 755/\na/d=3\n" },
	{ "opaque root", { "f a 1\nd b\n", "f .wh..wh..opq\nf c 2\n" }, "c=2\n" },
	{ "opaque within opaque", { "f a/b/c 1\n", "f a/b/.wh..wh..opq\nf a/b/d 2\n"
				    "f a/.wh..wh..opq\nf a/e 3\n" },
	  "a 755/\na/b 755/\na/b/d=2\na/e=3\n" },
	{ "other names of AUFS", { "f .wh..wh.plnk/1.2 x\nf .wh..wh.aufs\nf a 1\n" }, "a=1\n" },
	{ "hard link to a lower layer", { "f a 1\n", "h b a\n" }, "a=1*2\nb=1*2\n" },
	{ "hard link, other name replaced", { "f a 1\nh b a\n", "f a 2\n" }, "a=2\nb=1\n" },
	{ "hard link, other name whited out", { "f a 1\nh b a\n", "f .wh.a\n" }, "b=1\n" },
	{ "hard link to itself", { "f a 1\nh a a\n" }, "a=1\n" },
	{ "hard link over its own directory", { "f a/b 1\n", "h a a/b\n" }, "a=1\n" },
	{ "hard link to a link", { "l a x\nh b a\n" }, "a>x*2\nb>x*2\n" },
	{ "through a link", { "d u/l\nl l u/l\n", "f l/x 1\nf l/.wh.y\n" },
	  "l>u/l\nu 755/\nu/l 755/\nu/l/x=1\n" },
	{ "through an absolute link", { "d u/l\nl l /u/l\n", "f l/x 1\n" },
	  "l>/u/l\nu 755/\nu/l 755/\nu/l/x=1\n" },
	{ "through a link that climbs", { "d u\nl u/l ../../../v\n", "f u/l/x 1\n" },
	  "u 755/\nu/l>../../../v\nv 755/\nv/x=1\n" },
	{ "through links to links", { "l a b\nl b c/d\nd c/d\n", "f a/x 1\n" },
	  "a>b\nb>c/d\nc 755/\nc/d 755/\nc/d/x=1\n" },
	{ "whiteout through a link", { "f u/x 1\nl l u\n", "f l/.wh.x\n" }, "l>u\nu 755/\n" },
	{ "a link is not followed to write", { "f t 1\nl l t\n", "f l 2\n" }, "l=2\nt=1\n" },
	{ "names around the dots", { "f ab 1\nf a 1\nf a! 1\nf ! 1\nf ... 1\nf .a 1\nf -x 1\n" },
	  "!=1\n-x=1\n...=1\n.a=1\na=1\na!=1\nab=1\n" },
};

static void test_layers(void **state)
{
	size_t i, n, j;

	for (i = 0; i < sizeof(layer_cases) / sizeof(*layer_cases); i++) {
		const struct layers *c = &layer_cases[i];
		struct archive a[3];
		struct image im;
		char *got;

		for (n = 0; n < 3 && c->layer[n]; n++)
			a[n] = make(c->layer[n]);
		im = build(a, n);
		got = list(&im);
		if (strcmp(got, c->want))
			fail_msg("%s: got\n%swanted\n%s", c->name, got, c->want);
		free(got);
		munmap(im.data, im.len);
		for (j = 0; j < n; j++)
			free(a[j].data);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *layer[2];
		const char *why; /* part of the message */
	} cases[] = {
		{ { "f a/../b 1\n" }, "a/../b: a path with \"..\"" },
		{ { "f ../b 1\n" }, "\"..\"" },
		{ { "d ..\n" }, "\"..\"" },
		{ { "f a 1\n", "f a/b 2\n" }, "a/b: \"a\" on the way is not a directory" },
		{ { "p a\nd a/b\n" }, "not a directory" },
		{ { "f . x\n" }, "the root" },
		{ { "l ./ x\n" }, "the root" },
		{ { "l a a\nf a/b 1\n" }, "links on the way" },
		{ { "l a b\nl b a\nf a/b 1\n" }, "links on the way" },
		{ { "h a b\n" }, "hard link to b, which is not there" },
		{ { "d b\nh a b\n" }, "hard link to the directory b" },
		{ { "f b 1\nh a ../b\n" }, "hard link to ../b" },
		{ { "h a /\n" }, "hard link" },
		{ { "f b 1\n", "f .wh.b\nh a b\n" }, "not there" },
		{ { "l a\n" }, "target of 0 bytes" },
		{ { "f .wh. x\n" }, "whiteout of nothing" },
		{ { "f .wh... x\n" }, "whiteout of nothing" },
	};
	size_t i, n;

	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct smolvm_error err = SMOLVM_ERROR_INIT;
		struct rootfs *r;
		int fd, rc = 0;

		r = begin(&fd, NULL);
		for (n = 0; !rc && n < 2 && cases[i].layer[n]; n++) {
			struct archive a = make(cases[i].layer[n]);
			struct input in = input_of(&a);

			rc = add_input(r, &in, true, &err);
			free(a.data);
		}
		if (rc != -EINVAL || !strstr(err.message, cases[i].why))
			fail_msg("case %zu: %d %s", i, rc, err.message);
		rootfs_destroy(r);
		close(fd);
	}
}

/* --- contents --- */

static void test_sizes(void **state)
{
	static const size_t sizes[] = { 0, 1, 2047, 2048, 2049, 4095, 4096, 4097, 300000, 5000000 };
	struct archive a = { 0 };
	struct image im;
	size_t i, k;

	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		AUTO_FREE uint8_t *data = malloc(sizes[i] + 1);
		char name[32];

		for (k = 0; k < sizes[i]; k++)
			data[k] = (uint8_t)(k % 251 + i);
		snprintf(name, sizeof(name), "s%zu", sizes[i]);
		put_entry(&a, name, '0', 0644, "", data, sizes[i]);
	}
	put_end(&a);
	im = build(&a, 1);
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		AUTO_FREE char *data = NULL;
		struct file f;
		char name[32];

		snprintf(name, sizeof(name), "s%zu", sizes[i]);
		f = find(&im, name);
		assert_int_equal(f.size, sizes[i]);
		data = contents(&im, &f);
		for (k = 0; k < sizes[i]; k++)
			if ((uint8_t)data[k] != (uint8_t)(k % 251 + i))
				fail_msg("%s differs at %zu", name, k);
	}
	munmap(im.data, im.len);
	free(a.data);
}

static uint64_t disk_use(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* Zeroes take no room, nor does what a later layer replaced. */
static void test_holes(void **state)
{
	const size_t big = 8 << 20;
	AUTO_FREE uint8_t *data = calloc(1, big);
	struct archive a = { 0 }, b = make("f random 1\n");
	struct input in;
	struct rootfs *r;
	struct image im;
	struct file f;
	int fd, copy;

	data[5 << 20] = 1;
	put_entry(&a, "zeroes", '0', 0644, "", data, big);
	memset(data, 7, big);
	put_entry(&a, "random", '0', 0644, "", data, big);
	put_end(&a);
	r = begin(&fd, NULL);
	copy = dup(fd);
	in = input_of(&a);
	assert_int_equal(add_input(r, &in, true, NULL), 0);
	assert_true(disk_use(fd) >= big / 2 && disk_use(fd) < big + (1 << 20));
	in = input_of(&b);
	assert_int_equal(add_input(r, &in, true, NULL), 0);
	im = end(r, fd);
	assert_true(disk_use(copy) < 100000);
	f = find(&im, "zeroes");
	assert_int_equal(f.size, big);
	assert_int_equal(block_of(&im, &f, (5 << 20) / 4096)[0], 1);
	assert_int_equal(block_of(&im, &f, (5 << 20) / 4096)[1], 0);
	munmap(im.data, im.len);
	close(copy);
	free(a.data);
	free(b.data);
}

static void test_many_names(void **state)
{
	struct archive a = { 0 };
	char name[100], *got, *line, *save, last[100] = "";
	unsigned int i, n = 0;
	struct image im;

	for (i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "%u-%.*s", i * 7919u % 5000u, (int)(i % 60),
			 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn");
		put_entry(&a, name, '0', 0644, "", "x", 1);
	}
	put_end(&a);
	im = build(&a, 1);
	got = list(&im);
	for (line = strtok_r(got, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++) {
		assert_true(strlen(line) < sizeof(last));
		*strchr(line, '=') = '\0';
		assert_true(strcmp(last, line) < 0);
		strcpy(last, line);
	}
	assert_int_equal(n, 5000);
	free(got);
	munmap(im.data, im.len);
	free(a.data);
}

/* --- names and attributes --- */

static void test_names_are_bytes(void **state)
{
	static const char *const names[] = { "e\xcc\x81", "\xc3\xa9", "caf\xe9", "new\nline",
					     "\xff" };
	static const char *const locales[] = { "C", "C.UTF-8" };
	char long_name[256];
	struct archive a = { 0 };
	struct image im;
	size_t i, k;

	memset(long_name, 'n', 255);
	long_name[255] = '\0';
	for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
		put_pax(&a, "path", names[i], strlen(names[i]));
		put_entry(&a, "x", '0', 0644, "", names[i], strlen(names[i]));
		put_pax(&a, "linkpath", names[i], strlen(names[i]));
		put_entry(&a, i % 2 ? "l1" : "l0", '2', 0777, "x", "", 0);
	}
	put_pax(&a, "path", long_name, 255);
	put_entry(&a, "x", '0', 0644, "", "", 0);
	put_end(&a);
	for (k = 0; k < 2; k++) {
		assert_non_null(setlocale(LC_ALL, locales[k]));
		im = build(&a, 1);
		for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
			struct file f = find(&im, names[i]);
			AUTO_FREE char *data = contents(&im, &f);

			assert_string_equal(data, names[i]);
		}
		struct file f = find(&im, "l1");
		AUTO_FREE char *data = contents(&im, &f);

		assert_string_equal(data, "new\nline");
		assert_int_equal(find(&im, long_name).nlink, 1);
		munmap(im.data, im.len);
	}
	setlocale(LC_ALL, "C");
	free(a.data);
}

static void test_too_long(void **state)
{
	static const size_t lens[] = { 256, 4096 };
	size_t i, k;

	for (i = 0; i < 2; i++) {
		struct smolvm_error err = SMOLVM_ERROR_INIT;
		struct archive a = { 0 };
		struct input in;
		struct rootfs *r;
		char name[4096];
		int fd;

		for (k = 0; k < lens[i]; k++)
			name[k] = lens[i] > 255 && k % 200 == 100 && i ? '/' : 'n';
		put_pax(&a, "path", name, lens[i]);
		put_entry(&a, "x", '0', 0644, "", "", 0);
		put_end(&a);
		in = input_of(&a);
		r = begin(&fd, NULL);
		assert_int_equal(add_input(r, &in, true, &err), -EINVAL);
		assert_non_null(strstr(err.message, "longer than"));
		rootfs_destroy(r);
		close(fd);
		free(a.data);
	}
}

static void test_xattrs(void **state)
{
	static const char binary[] = "a\0b\nc=d";
	static const uint8_t acl[] = {
		2, 0, 0, 0,
		1, 0, 7, 0, 255, 255, 255, 255,    2, 0, 5, 0, 0xd2, 4, 0, 0,
		4, 0, 5, 0, 255, 255, 255, 255,    16, 0, 5, 0, 255, 255, 255, 255,
		32, 0, 0, 0, 255, 255, 255, 255,
	};
	const char *text = "user::rwx,user:u:r-x:1234,group::r-x,mask::r-x,other::---";
	struct archive a = { 0 };
	struct image im;
	struct file f;
	const uint8_t *x;

	put_pax2(&a, "SCHILY.xattr.user.b", binary, sizeof(binary) - 1,
		 "SCHILY.xattr.trusted.overlay.opaque", "y");
	put_entry(&a, "f", '0', 0644, "", "data", 4);
	put_pax(&a, "SCHILY.acl.access", text, strlen(text));
	put_entry(&a, "g", '0', 0750, "", "", 0);
	put_pax(&a, "SCHILY.xattr.btrfs.compression", "x", 1);
	put_entry(&a, "h", '0', 0750, "", "", 0);
	put_end(&a);
	im = build(&a, 1);
	f = find(&im, "f");
	x = im.data + f.at + 64 + 12;
	assert_int_equal(f.xattrs, 12 + 12); /* 4 + "b" + 7 bytes */
	assert_memory_equal(x, "\1\1\7\0b", 5);
	assert_memory_equal(x + 5, binary, 7);
	assert_memory_equal(block_of(&im, &f, 0), "data", 4);
	f = find(&im, "g");
	x = im.data + f.at + 64 + 12;
	assert_int_equal(f.xattrs, 12 + 4 + sizeof(acl));
	assert_int_equal(x[0], 0);
	assert_int_equal(x[1], 2);
	assert_memory_equal(x + 4, acl, sizeof(acl));
	assert_int_equal(find(&im, "h").xattrs, 0);
	munmap(im.data, im.len);
	free(a.data);
}

/* --- damage, limits, sources --- */

static void test_truncated(void **state)
{
	struct archive a = make("d a\nf a/f hello\nf b 1\nl c b\n");
	size_t len;

	for (len = 1; len < a.len; len++) {
		struct smolvm_error err = SMOLVM_ERROR_INIT;
		struct input in = { .data = a.data, .len = len, .piece = 300 };
		struct rootfs *r;
		int fd, rc;

		if (len % 512 > 1 && len % 512 < 510)
			continue;
		r = begin(&fd, NULL);
		rc = add_input(r, &in, false, &err);
		/* one block of zeroes is an end as well */
		if (rc != (len >= a.len - BLOCK ? 0 : -EINVAL))
			fail_msg("cut at %zu of %zu: %d %s", len, a.len, rc, err.message);
		assert_int_equal(rc == 0, err.message[0] == '\0');
		rootfs_destroy(r);
		close(fd);
	}
	free(a.data);
}

static uint32_t crc32_of(const uint8_t *p, size_t len)
{
	uint32_t c = UINT32_MAX;
	int bit;

	while (len-- > 0) {
		c ^= *p++;
		for (bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
	}
	return ~c;
}

/* gzip without compression (RFC 1951 §3.2.4), so that every bit of the archive is in it. */
static struct archive gzip_stored(const struct archive *a)
{
	struct archive z = { .data = malloc(a->len + 64) };
	uint32_t tail[2] = { crc32_of(a->data, a->len), (uint32_t)a->len };
	uint16_t len[2] = { (uint16_t)a->len, (uint16_t)~a->len };

	assert_true(a->len < 65536);
	memcpy(z.data, "\x1f\x8b\x08\0\0\0\0\0\0\3\1", 11);
	memcpy(z.data + 11, len, 4);
	memcpy(z.data + 15, a->data, a->len);
	memcpy(z.data + 15 + a->len, tail, 8);
	z.len = 15 + a->len + 8;
	return z;
}

static void test_flipped_bits(void **state)
{
	struct archive a = make("f f some contents\n"), z = gzip_stored(&a);
	size_t i;

	for (i = 0; i < z.len; i++) {
		struct smolvm_error err = SMOLVM_ERROR_INIT;
		struct input in = input_of(&z);
		struct rootfs *r;
		int fd, rc;

		if (i >= 4 && i < 10)
			continue; /* time and system: not looked at by anyone */
		z.data[i] ^= 1u << i % 8;
		r = begin(&fd, NULL);
		rc = add_input(r, &in, true, &err);
		if (rc != -EINVAL)
			fail_msg("byte %zu flipped: %d %s", i, rc, err.message);
		z.data[i] ^= 1u << i % 8;
		rootfs_destroy(r);
		close(fd);
	}
	free(a.data);
	free(z.data);
}

static void test_not_an_archive(void **state)
{
	static const char *const texts[] = { "", "x", "PK\3\4 no archive of ours" };
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct smolvm_error err = SMOLVM_ERROR_INIT;
		struct input in = { .data = (const uint8_t *)texts[i], .len = strlen(texts[i]),
				    .piece = 7 };
		const struct tar_source source = { input_read, NULL, &in };
		struct tar *t;

		assert_int_equal(tar_open(&t, &source, &err), -EINVAL);
		assert_true(err.message[0] != '\0');
	}
}

static void test_source_fails(void **state)
{
	struct archive a = make("d a\nf a/f hello\n"), z = gzip_stored(&a);
	const struct archive *both[] = { &a, &z };
	size_t i;

	for (i = 0; i < 2; i++) {
		struct smolvm_error err = SMOLVM_ERROR_INIT;
		struct input in = input_of(both[i]);
		struct rootfs *r;
		int fd;

		in.len = 1200;
		in.fail = ESTALE;
		r = begin(&fd, NULL);
		assert_int_equal(add_input(r, &in, true, &err), -ESTALE);
		assert_non_null(strstr(err.message, "the source broke"));
		rootfs_destroy(r);
		close(fd);
	}
	free(a.data);
	free(z.data);
}

static void test_limits(void **state)
{
	static const struct {
		struct rootfs_limits limits;
		const char *layer;
		int want;
	} cases[] = {
		{ { .inodes = 3 }, "f a 1\nf b 1\n", 0 },
		{ { .inodes = 3 }, "f a 1\nf b 1\nf c 1\n", -EFBIG },
		{ { .inodes = 3 }, "f a 1\nf a 1\nf a 1\nf a 1\nh b a\nh c a\n", 0 },
		{ { .meta_bytes = 1000 }, "f a 1\n", -EFBIG },
	};
	struct archive big = { 0 };
	struct rootfs_limits limits = { .data_bytes = 2 << 20 };
	AUTO_FREE uint8_t *data = malloc(4 << 20);
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct input in;
	struct rootfs *r;
	size_t i;
	int fd, rc;

	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct archive a = make(cases[i].layer);

		fd = fd_memfd("image");
		r = NULL;
		rc = rootfs_create(&r, fd, "/tmp", &cases[i].limits, &err);
		in = input_of(&a);
		if (!rc)
			rc = add_input(r, &in, true, &err);
		assert_int_equal(rc, cases[i].want);
		rootfs_destroy(r);
		close(fd);
		free(a.data);
	}
	memset(data, 1, 4 << 20);
	put_entry(&big, "big", '0', 0644, "", data, 4 << 20);
	put_end(&big);
	r = begin(&fd, &limits);
	in = input_of(&big);
	rc = add_input(r, &in, true, &err);
	assert_int_equal(rc, -EFBIG);
	rootfs_destroy(r);
	close(fd);
	free(big.data);
}

/* Two terabytes in one entry of nothing but a hole. */
static void test_logical_limit(void **state)
{
	static const char *const sizes[] = { "2199023255552", "1099511627776" };
	size_t i;

	for (i = 0; i < 2; i++) {
		struct smolvm_error err = SMOLVM_ERROR_INIT;
		struct archive a = { 0 };
		struct input in;
		struct rootfs *r;
		int fd, rc;

		put_pax2(&a, "GNU.sparse.size", sizes[i], strlen(sizes[i]), "GNU.sparse.map",
			 "0,0");
		put_entry(&a, "hole", '0', 0644, "", "", 0);
		put_end(&a);
		in = input_of(&a);
		r = begin(&fd, NULL);
		rc = add_input(r, &in, true, &err);
		assert_int_equal(rc, i ? 0 : -EFBIG);
		rootfs_destroy(r);
		close(fd);
		free(a.data);
	}
}

/* Links make paths of any depth; the tree has a limit, and is removed without deep recursion. */
static void test_deep(void **state)
{
	static const char *const starts[] = { "", "l0/", "l1/" };
	struct archive a[2] = { { 0 }, make("f .wh.d\nf x 1\n") };
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	char path[4096];
	struct input in;
	struct rootfs *r;
	struct image im;
	size_t n;
	int fd, i, k;

	for (i = 0; i < 2; i++) {
		n = (size_t)snprintf(path, sizeof(path), "%s", starts[i]);
		for (k = 0; k < 1500; k++, n += 2)
			memcpy(path + n, "d/", 3);
		put_pax(&a[0], "path", path, n);
		put_entry(&a[0], "x", '5', 0755, "", "", 0);
		put_pax(&a[0], "linkpath", path, n);
		put_entry(&a[0], i ? "l1" : "l0", '2', 0777, "x", "", 0);
	}
	put_end(&a[0]);
	im = build(a, 2);
	assert_int_equal(find(&im, "x").size, 1);
	assert_int_equal(find(&im, "d").nlink, 0);
	munmap(im.data, im.len);

	a[0].len -= 2 * BLOCK;
	memcpy(path, starts[2], 3);
	put_pax(&a[0], "path", path, n);
	put_entry(&a[0], "x", '5', 0755, "", "", 0);
	put_end(&a[0]);
	in = input_of(&a[0]);
	r = begin(&fd, NULL);
	assert_int_equal(add_input(r, &in, true, &err), -EINVAL);
	assert_non_null(strstr(err.message, "too deep"));
	rootfs_destroy(r);
	close(fd);
	free(a[0].data);
	free(a[1].data);
}

static void test_tar_skips(void **state)
{
	const size_t len = 1 << 20;
	AUTO_FREE uint8_t *data = malloc(len);
	struct archive a = { 0 };
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct input in;
	const struct tar_source source = { input_read, input_skip, &in };
	struct tar_entry e;
	struct tar *t;

	memset(data, 'A', len);
	put_entry(&a, "a", '0', 0644, "", data, len);
	put_pax(&a, "path", "longer", 6);
	put_entry(&a, "b", '0', 0644, "", "BBBB", 4);
	put_end(&a);
	in = input_of(&a);
	assert_int_equal(tar_open(&t, &source, &err), 0);
	assert_int_equal(tar_next(t, &e, &err), 1);
	assert_int_equal(e.offset, BLOCK);
	assert_int_equal(e.size, len);
	assert_int_equal(tar_next(t, &e, &err), 1);
	assert_string_equal(e.path, "longer");
	assert_memory_equal(a.data + e.offset, "BBBB", 4);
	assert_int_equal(tar_next(t, &e, &err), 0);
	assert_true(tar_complete(t));
	assert_true(in.skipped > len / 2);
	tar_close(t);
	free(a.data);
}

static void test_same_bytes(void **state)
{
	struct archive a = make("d a\nf a/f hello\nf a/g 2\nl c b\nf .wh.x\n");
	struct image one = build(&a, 1), two = build(&a, 1);

	assert_int_equal(one.len, two.len);
	assert_memory_equal(one.data, two.data, one.len);
	munmap(one.data, one.len);
	munmap(two.data, two.len);
	free(a.data);
}

/* --- a directory of the host --- */

static void host_file(int dir, const char *path, const char *text, off_t hole)
{
	int fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL, 0640);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, text, strlen(text), hole), strlen(text));
	close(fd);
}

static void test_host_tree(void **state)
{
	char path[] = "/tmp/test-rootfs-XXXXXX";
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct rootfs *r;
	struct image im;
	struct file f;
	int dir, fd, s = socket(AF_UNIX, SOCK_STREAM, 0);
	char *got;

	assert_non_null(mkdtemp(path));
	dir = open(path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(mkdirat(dir, "d", 0700), 0);
	host_file(dir, "d/f", "hello", 0);
	host_file(dir, "sparse", "end", 10 << 20);
	assert_int_equal(linkat(dir, "d/f", dir, "g", 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", dir, "l"), 0);
	assert_int_equal(mkfifoat(dir, "p", 0600), 0);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/socket", path);
	assert_int_equal(bind(s, (struct sockaddr *)&sun, sizeof(sun)), 0);
	r = begin(&fd, NULL);
	if (rootfs_add_tree(r, dir, &err) < 0)
		fail_msg("%s", err.message);
	im = end(r, fd);
	f = find(&im, "sparse");
	assert_int_equal(f.size, (10 << 20) + 3);
	assert_memory_equal(block_of(&im, &f, (10 << 20) / 4096), "end", 3);
	got = list(&im);
	assert_non_null(strstr(got, "d 700/\nd/f=hello*2\ng=hello*2\nl>/etc/passwd\np|\nsparse="));
	assert_null(strstr(got, "socket"));
	free(got);
	munmap(im.data, im.len);
	close(s);
	close(dir);
	assert_int_equal(path_remove_tree(path), 0);
}

/* --- no memory --- */

static long allocations_left = -1; /* -1: no limit */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static bool may_allocate(void)
{
	if (allocations_left > 0)
		allocations_left--;
	if (allocations_left == 0)
		errno = ENOMEM;
	return allocations_left != 0;
}

void *__wrap_malloc(size_t size)
{
	return may_allocate() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return may_allocate() ? __real_calloc(n, size) : NULL;
}

void *__wrap_realloc(void *p, size_t size)
{
	return may_allocate() ? __real_realloc(p, size) : NULL;
}

static int build_short_of_memory(const struct archive *a, const struct archive *b, int dir,
				 struct smolvm_error *err)
{
	AUTO_FD fd = fd_memfd("image");
	struct input in = input_of(a);
	struct rootfs *r = NULL;
	uint64_t bytes;
	int rc = rootfs_create(&r, fd, "/tmp", NULL, err);

	if (!rc)
		rc = add_input(r, &in, true, err);
	in = input_of(b);
	if (!rc)
		rc = add_input(r, &in, true, err);
	if (!rc)
		rc = rootfs_add_tree(r, dir, err);
	if (!rc)
		rc = rootfs_finish(r, &bytes, err);
	rootfs_destroy(r);
	return rc;
}

/* Every allocation fails once: an error, and nothing lost. */
static void test_no_memory(void **state)
{
	struct archive a = { 0 }, plain = make("f a/b/.wh..wh..opq\nf a/l/x 2\nf a/n 3\nd q\n"), z;
	char path[] = "/tmp/test-rootfs-XXXXXX";
	int rc = -ENOMEM, dir;
	long n;

	put_pax(&a, "SCHILY.acl.access", "user::rwx,group::r-x,other::---,mask::r-x,user:u:r-x:5",
		54);
	put_entry(&a, "a/b/c/d", '0', 0644, "", "1", 1);
	put_entry(&a, "a/l", '2', 0777, "b/c", "", 0);
	put_end(&a);
	z = gzip_stored(&plain);
	assert_non_null(mkdtemp(path));
	dir = open(path, O_RDONLY | O_DIRECTORY);
	host_file(dir, "f", "x", 0);
	assert_int_equal(linkat(dir, "f", dir, "g", 0), 0);
	for (n = 1; rc; n++) {
		struct smolvm_error err = SMOLVM_ERROR_INIT;

		allocations_left = n;
		rc = build_short_of_memory(&a, &z, dir, &err);
		allocations_left = -1;
		if (rc != 0 && rc != -ENOMEM)
			fail_msg("allocation %ld: %d %s", n, rc, err.message);
		assert_int_equal(err.code, -rc);
		assert_true(n < 500);
	}
	assert_true(n > 20);
	close(dir);
	assert_int_equal(path_remove_tree(path), 0);
	free(a.data);
	free(plain.data);
	free(z.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layers),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_many_names),
		cmocka_unit_test(test_names_are_bytes),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_xattrs),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_flipped_bits),
		cmocka_unit_test(test_not_an_archive),
		cmocka_unit_test(test_source_fails),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_logical_limit),
		cmocka_unit_test(test_deep),
		cmocka_unit_test(test_tar_skips),
		cmocka_unit_test(test_same_bytes),
		cmocka_unit_test(test_host_tree),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
