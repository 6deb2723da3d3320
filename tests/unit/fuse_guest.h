/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of the shared-folder server for its tests: raw FUSE requests, in this process.
 */
#ifndef TESTS_FUSE_GUEST_H
#define TESTS_FUSE_GUEST_H

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

#include "base/path.h"
#include "fileserver/server.h"

#define GUEST_DATA_MAX (128u << 10)
#define GUEST_MESSAGE  (GUEST_DATA_MAX + 4096u)

/**
 * struct guest - a share of a temporary directory, and one request at a time.
 * @base:  the temporary directory; the shared one is "share" in it.
 * @share: a descriptor of the shared one, for what the host does.
 * @out:   the last answer's body, of @out_len bytes.
 */
struct guest {
	char base[64];
	int base_fd, share;
	struct fileserver *fs;
	uint8_t request[GUEST_MESSAGE], reply[GUEST_MESSAGE];
	size_t len;
	const uint8_t *out;
	size_t out_len;
	uint32_t uid, gid;
};

static inline void guest_serve(struct guest *g, const char *path, bool read_only)
{
	struct fileserver_config config = {
		.root_fd = openat(g->base_fd, path, O_PATH | O_CLOEXEC),
		.read_only = read_only,
		.data_max = GUEST_DATA_MAX,
	};

	fileserver_destroy(g->fs);
	g->fs = NULL;
	assert_int_equal(fileserver_create(&g->fs, &config, NULL), 0);
}

static inline int guest_setup(void **state)
{
	struct guest *g = calloc(1, sizeof(*g));

	strcpy(g->base, "/tmp/fileserver-test-XXXXXX");
	assert_non_null(mkdtemp(g->base));
	g->base_fd = open(g->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(g->base_fd, "share", 0755), 0);
	g->share = openat(g->base_fd, "share", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	g->uid = geteuid();
	g->gid = getegid();
	guest_serve(g, "share", false);
	*state = g;
	return 0;
}

static inline int guest_teardown(void **state)
{
	struct guest *g = *state;

	fileserver_destroy(g->fs);
	close(g->share);
	close(g->base_fd);
	assert_int_equal(path_remove_tree(g->base), 0);
	free(g);
	return 0;
}

/* ---- requests ---- */

static inline void guest_begin(struct guest *g)
{
	g->len = sizeof(struct fuse_in_header);
}

static inline void guest_add(struct guest *g, const void *data, size_t n)
{
	assert_true(g->len + n <= sizeof(g->request));
	memcpy(g->request + g->len, data, n);
	g->len += n;
}

static inline void guest_name(struct guest *g, const char *name)
{
	guest_add(g, name, strlen(name) + 1);
}

/* Send what was put together. Return: the answer's error, 0 or negative; 1 when there is none. */
static inline int guest_send(struct guest *g, uint32_t opcode, uint64_t nodeid)
{
	struct fuse_in_header in = {
		.len = (uint32_t)g->len,
		.opcode = opcode,
		.unique = 0x1122334455667788u,
		.nodeid = nodeid,
		.uid = g->uid,
		.gid = g->gid,
		.pid = 1,
	};
	struct fuse_out_header out;
	ssize_t n;

	memcpy(g->request, &in, sizeof(in));
	n = fileserver_handle(g->fs, g->request, g->len, g->reply, sizeof(g->reply));
	if (n == 0)
		return 1;
	assert_true(n >= (ssize_t)sizeof(out));
	memcpy(&out, g->reply, sizeof(out));
	assert_int_equal(out.len, n);
	assert_true(out.unique == in.unique);
	assert_true(out.error <= 0 && out.error > -512);
	if (out.error < 0)
		assert_int_equal(n, sizeof(out));
	g->out = g->reply + sizeof(out);
	g->out_len = (size_t)n - sizeof(out);
	return out.error;
}

/* A request of one structure and, where not NULL, one name. */
static inline int guest_ask(struct guest *g, uint32_t opcode, uint64_t nodeid, const void *in,
			    size_t n, const char *name)
{
	guest_begin(g);
	guest_add(g, in, n);
	if (name != NULL)
		guest_name(g, name);
	return guest_send(g, opcode, nodeid);
}

/* Copy a structure out of the answer. */
static inline void guest_take(struct guest *g, void *to, size_t n)
{
	assert_true(g->out_len >= n);
	memcpy(to, g->out, n);
	g->out += n;
	g->out_len -= n;
}

/* Return: the node, with *@ret (if not NULL) the whole entry; 0 and errno when it failed. */
static inline uint64_t guest_entry(struct guest *g, int error, struct fuse_entry_out *ret)
{
	struct fuse_entry_out e = { 0 };

	errno = -error;
	if (error == 0)
		guest_take(g, &e, sizeof(e));
	if (ret != NULL)
		*ret = e;
	return e.nodeid;
}

static inline uint64_t guest_lookup(struct guest *g, uint64_t dir, const char *name,
				    struct fuse_entry_out *ret)
{
	return guest_entry(g, guest_ask(g, FUSE_LOOKUP, dir, "", 0, name), ret);
}

static inline uint64_t guest_mkdir(struct guest *g, uint64_t dir, const char *name)
{
	struct fuse_mkdir_in in = { .mode = 0755 };

	return guest_entry(g, guest_ask(g, FUSE_MKDIR, dir, &in, sizeof(in), name), NULL);
}

static inline void guest_forget(struct guest *g, uint64_t nodeid, uint64_t count)
{
	struct fuse_forget_in in = { count };

	assert_int_equal(guest_ask(g, FUSE_FORGET, nodeid, &in, sizeof(in), NULL), 1);
}

static inline int guest_getattr(struct guest *g, uint64_t nodeid, struct fuse_attr *ret)
{
	struct fuse_getattr_in in = { 0 };
	struct fuse_attr_out out = { 0 };
	int r = guest_ask(g, FUSE_GETATTR, nodeid, &in, sizeof(in), NULL);

	if (r == 0)
		guest_take(g, &out, sizeof(out));
	if (ret != NULL)
		*ret = out.attr;
	return r;
}

/* FUSE_OPEN or FUSE_OPENDIR. Return: error, with the handle. */
static inline int guest_open(struct guest *g, uint32_t opcode, uint64_t nodeid, uint32_t flags,
			     struct fuse_open_out *ret)
{
	struct fuse_open_in in = { .flags = flags };
	int r = guest_ask(g, opcode, nodeid, &in, sizeof(in), NULL);

	if (r == 0)
		guest_take(g, ret, sizeof(*ret));
	return r;
}

static inline uint64_t guest_create(struct guest *g, uint64_t dir, const char *name, uint32_t flags,
				    uint32_t mode, uint64_t *ret_fh)
{
	struct fuse_create_in in = { .flags = flags | O_CREAT, .mode = S_IFREG | mode };
	struct fuse_open_out out;
	uint64_t node;

	*ret_fh = 0;
	node = guest_entry(g, guest_ask(g, FUSE_CREATE, dir, &in, sizeof(in), name), NULL);
	if (node != 0) {
		guest_take(g, &out, sizeof(out));
		*ret_fh = out.fh;
	}
	return node;
}

static inline int guest_release(struct guest *g, uint32_t opcode, uint64_t fh)
{
	struct fuse_release_in in = { .fh = fh };

	return guest_ask(g, opcode, 0, &in, sizeof(in), NULL);
}

static inline int guest_read(struct guest *g, uint32_t opcode, uint64_t fh, uint64_t offset,
			     uint32_t size)
{
	struct fuse_read_in in = { .fh = fh, .offset = offset, .size = size };

	return guest_ask(g, opcode, 0, &in, sizeof(in), NULL);
}

/* Return: error, or the bytes written. */
static inline int guest_write(struct guest *g, uint64_t fh, uint64_t offset, const char *text,
			      uint32_t flags)
{
	struct fuse_write_in in = {
		.fh = fh, .offset = offset, .size = (uint32_t)strlen(text), .flags = flags,
	};
	struct fuse_write_out out;
	int r;

	guest_begin(g);
	guest_add(g, &in, sizeof(in));
	guest_add(g, text, in.size);
	r = guest_send(g, FUSE_WRITE, 0);
	if (r < 0)
		return r;
	guest_take(g, &out, sizeof(out));
	return (int)out.size;
}

static inline int guest_rename(struct guest *g, uint64_t dir, const char *name, uint64_t new_dir,
			       const char *new_name, uint32_t flags)
{
	struct fuse_rename2_in in = { .newdir = new_dir, .flags = flags };

	guest_begin(g);
	guest_add(g, &in, sizeof(in));
	guest_name(g, name);
	guest_name(g, new_name);
	return guest_send(g, FUSE_RENAME2, dir);
}

/* ---- what the host does ---- */

static inline void host_write(struct guest *g, const char *name, const char *text)
{
	int fd = openat(g->share, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static inline void host_holds(struct guest *g, const char *name, const char *text)
{
	char buf[256] = "";
	int fd = openat(g->share, name, O_RDONLY);

	assert_true(fd >= 0);
	assert_true(read(fd, buf, sizeof(buf) - 1) >= 0);
	close(fd);
	assert_string_equal(buf, text);
}

static inline bool host_has(struct guest *g, const char *name)
{
	struct stat st;

	return fstatat(g->share, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* As if the time were over for which a directory that is held open need not be looked for. */
static inline void guest_time_passes(struct guest *g)
{
	for (uint32_t s = 1; s <= g->fs->nodes.slot_cap; s++)
		g->fs->nodes.slots[s].checked_ms -= NODE_CHECK_MS;
}

#endif
