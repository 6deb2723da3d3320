/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image that is embedded in the program.
 */
#include "image/base.h"

#include <stdint.h>

#include "base_image.h" /* generated: BASE_IMAGE_ID, BASE_IMAGE_CONFIG, BASE_IMAGE_TAR */

__asm__(".section .rodata\n"
	".balign 16\n"
	"base_image_begin:\n"
	".incbin \"" BASE_IMAGE_TAR "\"\n"
	"base_image_end:\n"
	".balign 8\n"
	"base_image_len:\n"
	".quad base_image_end - base_image_begin\n"
	".previous\n");

extern const char base_image_begin[] __attribute__((visibility("hidden")));
extern const uint64_t base_image_len __attribute__((visibility("hidden")));

const char *base_id(void)
{
	return BASE_IMAGE_ID;
}

const char *base_config(void)
{
	return BASE_IMAGE_CONFIG;
}

static ssize_t read_base(void *ctx, const void **ret_block, struct smolvm_error *err)
{
	struct base *b = ctx;
	size_t left = base_image_len - b->done;

	*ret_block = base_image_begin + b->done;
	b->done += left;
	return (ssize_t)left;
}

struct tar_source base_source(struct base *b)
{
	return (struct tar_source){ .read = read_base, .ctx = b };
}
