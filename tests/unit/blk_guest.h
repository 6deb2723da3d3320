/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio disk on a temporary file, and a driver that makes requests of it: for its tests.
 */
#ifndef TESTS_BLK_GUEST_H
#define TESTS_BLK_GUEST_H

#include "virtio_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define MIB (1u << 20)

#define F_RO	       (1ull << 5)
#define F_FLUSH	       (1ull << 9)
#define F_MQ	       (1ull << 12)
#define F_DISCARD      (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

enum { IN, OUT, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK, IOERR, UNSUPP, PENDING = 0xaa };

struct header {
	uint32_t type, reserved;
	uint64_t sector;
};

struct range {
	uint64_t sector;
	uint32_t sectors, flags;
};

struct t {
	struct vg g;
	int fd; /* a second descriptor of the disk's file */
	int disk_fd;
	bool loop;
};

static inline uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 7 + at / 512 * 13 + 1);
}

/* A file of @bytes with the pattern in it, already unlinked. */
static inline int make_file(const char *folder, uint64_t bytes)
{
	char path[64];
	uint8_t block[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/test-blk-XXXXXX", folder);
	fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	for (uint64_t at = 0; at < bytes; at += sizeof(block)) {
		uint64_t n = bytes - at < sizeof(block) ? bytes - at : sizeof(block);

		for (uint64_t i = 0; i < n; i++)
			block[i] = pattern(at + i);
		assert_int_equal(pwrite(fd, block, n, (off_t)at), n);
	}
	return fd;
}

static inline void begin(struct t *t, int fd, struct smolvm_vmm_disk config)
{
	struct virtio_device *d;

	vg_init(&t->g, t->loop);
	t->fd = fd;
	t->disk_fd = config.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	assert_int_equal(blk_create(&d, &t->g.env, &config, NULL), 0);
	vg_attach(&t->g, d);
	vg_boot(&t->g, ~0ull, 0);
}

static inline void end(struct t *t)
{
	vg_fini(&t->g);
	assert_null(t->g.env.pool);
	assert_int_equal(fcntl(t->disk_fd, F_GETFD), -1);
	close(t->fd);
}

struct request {
	uint16_t head;
	uint64_t data_gpa, status_gpa;
};

static inline uint8_t status_of(struct t *t, const struct request *r)
{
	return *(uint8_t *)vg_ptr(&t->g, r->status_gpa);
}

/* Publish a request with one buffer of @bytes at @gpa. */
static inline struct request add(struct t *t, unsigned int q, uint32_t type, uint64_t sector,
				 uint64_t gpa, uint32_t bytes)
{
	struct header h = { .type = type, .sector = sector };
	struct vg_buf bufs[3] = { vg_out(&t->g, &h, sizeof(h)) };
	struct request r = { .data_gpa = gpa };
	unsigned int n = 1;

	if (bytes)
		bufs[n++] = (struct vg_buf){ gpa, bytes, type == IN || type == GET_ID };
	bufs[n] = vg_in(&t->g, 1);
	*(uint8_t *)vg_ptr(&t->g, bufs[n].gpa) = PENDING;
	r.status_gpa = bufs[n++].gpa;
	r.head = vg_add(&t->g, q, bufs, n);
	return r;
}

/* One request, there and back. Return: its status. */
static inline int ask(struct t *t, uint32_t type, uint64_t sector, void *data, uint32_t bytes)
{
	uint64_t brk = t->g.brk, gpa = vg_alloc(&t->g, bytes + 1, 512);
	struct request r;
	uint16_t head = 0;
	uint32_t written = 0;

	if (data && type != IN && type != GET_ID)
		memcpy(vg_ptr(&t->g, gpa), data, bytes);
	r = add(t, 0, type, sector, gpa, bytes);
	vg_kick(&t->g, 0);
	assert_true(vg_wait(&t->g, 0, &head, &written));
	assert_int_equal(head, r.head);
	if (status_of(t, &r) == OK && type == IN)
		assert_int_equal(written, bytes + 1);
	if (status_of(t, &r) == OK && type == OUT)
		assert_int_equal(written, 1);
	if (data && (type == IN || type == GET_ID))
		memcpy(data, vg_ptr(&t->g, gpa), bytes);
	t->g.brk = brk;
	return status_of(t, &r);
}

static inline void check_pattern(const uint8_t *p, uint64_t at, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (p[i] != pattern(at + i))
			assert_int_equal(p[i], pattern(at + i));
}

static inline void check_zeroes(const uint8_t *p, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (p[i])
			assert_int_equal(p[i], 0);
}

static struct t the;

static inline int with_loop(void **state)
{
	the.loop = true;
	*state = &the;
	return 0;
}

static inline int without_loop(void **state)
{
	the.loop = false;
	*state = &the;
	return 0;
}

#define BOTH(f) cmocka_unit_test_setup(f, with_loop), cmocka_unit_test_setup(f, without_loop)

#endif
