/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system device and a driver by script (virtio_script.h); the device's own operation is a
 * FUSE request with a header that is sound: opcode, node, length of the answer's buffer, bytes of
 * the body, the body. The folder cannot be written: what requests do there is fuzz_fileserver's.
 */
#include <assert.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "virtio_script.h"

#define OUT  0x4000u /* where such a request lies, in the data's part of memory */
#define IN   0x6000u
#define BODY 255u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char base[64];

static void clean(void)
{
	path_remove_tree(base);
}

static void write_file(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert(fd >= 0 && write(fd, "some text", 9) == 9);
	close(fd);
}

static void prepare(void)
{
	int fd;

	if (base[0])
		return;
	snprintf(base, sizeof(base), "%s/fuzz-virtio-fs-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert(mkdtemp(base) != NULL);
	fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(fd >= 0 && mkdirat(fd, "d", 0755) == 0);
	write_file(fd, "f");
	write_file(fd, "d/g");
	close(fd);
	atexit(clean);
}

static void publish(struct vs *s, unsigned int q, uint32_t out_len, uint32_t in_len)
{
	uint8_t *ring = s->ram + vs_queue_at(q);
	const struct {
		uint64_t gpa;
		uint32_t len;
		uint16_t flags;
	} parts[2] = { { VS_GPA + VS_DATA + OUT, out_len, in_len ? 1 : 0 },
		       { VS_GPA + VS_DATA + IN, in_len, 2 } };
	uint16_t *avail = (uint16_t *)(void *)(ring + 0x200);
	uint16_t head = s->desc[q] % VS_SIZE;

	for (unsigned int i = 0; i < (in_len ? 2 : 1); i++) {
		uint8_t *p = ring + 16u * (s->desc[q]++ % VS_SIZE);
		uint16_t next = s->desc[q] % VS_SIZE;

		memcpy(p, &parts[i].gpa, 8);
		memcpy(p + 8, &parts[i].len, 4);
		memcpy(p + 12, &parts[i].flags, 2);
		memcpy(p + 14, &next, 2);
	}
	avail[2 + s->avail[q] % VS_SIZE] = head;
	__atomic_store_n(&avail[1], ++s->avail[q], __ATOMIC_RELEASE);
}

static void request(struct vs *s)
{
	uint32_t opcode = vs_take(s, 1), node = vs_take(s, 1), room = vs_take(s, 2) & 0x1fff;
	uint32_t n = vs_take(s, 1);
	struct fuse_in_header in = { .len = (uint32_t)sizeof(in) + n,
				     .opcode = opcode,
				     .unique = 1,
				     .nodeid = node };
	uint8_t body[BODY];

	for (unsigned int i = 0; i < n; i++)
		body[i] = (uint8_t)vs_take(s, 1);
	memcpy(s->ram + VS_DATA + OUT, &in, sizeof(in));
	memcpy(s->ram + VS_DATA + OUT + sizeof(in), body, n);
	publish(s, opcode == FUSE_FORGET ? 0 : 1, in.len, room);
	vs_write(s, VIRTIO_MMIO_QUEUE_NOTIFY, opcode == FUSE_FORGET ? 0 : 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smolvm_vmm_fs config = { .tag = "fuzz", .read_only = 1 };
	struct virtio_device *d;
	int before, after, op;
	struct vs s;

	prepare();
	before = dup(2);
	close(before);
	config.root_fd = open(base, O_PATH | O_CLOEXEC);
	vs_begin(&s, data, size, NULL);
	assert(fs_create(&d, &s.env, &config, NULL) == 0);
	vs_attach(&s, d);
	while ((op = vs_step(&s)) >= 0)
		if (op == 7)
			request(&s);
	vs_end(&s);
	after = dup(2);
	close(after);
	assert(before == after);
	return 0;
}
