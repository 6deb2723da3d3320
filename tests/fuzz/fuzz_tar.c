/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as an archive, applied twice (the second time whiteouts meet what the first left), and
 * written as an image under small limits. The first byte chooses pieces and whiteouts.
 *
 * Mutations are made good where a header's checksum would only keep them from being read.
 */
#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/rootfs.h"

#define BLOCK 512u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

struct input {
	const uint8_t *data;
	size_t len, at, piece;
};

static ssize_t input_read(void *ctx, const void **ret, struct smolvm_error *err)
{
	struct input *in = ctx;
	size_t n = in->len - in->at < in->piece ? in->len - in->at : in->piece;

	*ret = in->data + in->at;
	in->at += n;
	return (ssize_t)n;
}

static int64_t input_skip(void *ctx, int64_t n)
{
	struct input *in = ctx;

	if ((uint64_t)n > in->len - in->at)
		return 0;
	in->at += (size_t)n;
	return n;
}

static int apply(struct rootfs *r, struct input *in, bool whiteouts, struct smolvm_error *err)
{
	const struct tar_source source = { input_read, input_skip, in };
	struct tar *t;
	int rc = tar_open(&t, &source, err);

	if (rc < 0)
		return rc;
	rc = rootfs_add_layer(r, t, whiteouts, err);
	tar_close(t);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t pieces[] = { 1 << 20, 511, 512, 10000 };
	const struct rootfs_limits limits = { 2000, 4 << 20, 16 << 20 };
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	AUTO_FD fd = fd_memfd("image");
	struct rootfs *r;
	uint64_t bytes;
	int rc, i;

	if (size == 0)
		return 0;
	assert(fd >= 0);
	assert(rootfs_create(&r, fd, "/dev/shm", &limits, &err) == 0);
	rc = 0;
	for (i = 0; !rc && i < 2; i++) {
		struct input in = { data + 1, size - 1, 0, pieces[data[0] & 3] };

		rc = apply(r, &in, i == 1 || (data[0] & 4), &err);
	}
	if (!rc)
		rc = rootfs_finish(r, &bytes, &err);
	assert(rc <= 0);
	assert((rc < 0) == (err.code != 0) && err.code == -rc);
	assert(rc || (lseek(fd, 0, SEEK_END) == (off_t)bytes && bytes % 4096 == 0));
	rootfs_destroy(r);
	return 0;
}

static void mend(uint8_t *b)
{
	unsigned int sum = 8 * ' ', i;
	char text[16];

	for (i = 0; i < BLOCK; i++)
		if (i < 148 || i >= 156)
			sum += b[i];
	snprintf(text, sizeof(text), "%06o", sum);
	memcpy(b + 148, text, 7);
	b[155] = ' ';
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed)
{
	size_t n = LLVMFuzzerMutate(data, size, max), i;

	/* the first byte is ours */
	for (i = 1; i + BLOCK <= n && seed % 8; i += BLOCK)
		if (!memcmp(data + i + 257, "ustar", 5))
			mend(data + i);
	return n;
}
