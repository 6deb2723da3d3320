/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes of a file in the form that EROFS keeps beside the inode.
 */
#ifndef IMAGE_XATTRS_H
#define IMAGE_XATTRS_H

#include <stdint.h>

#include <smolvm/error.h>

#include "image/pool.h"
#include "image/tar.h"

#define XATTRS_BYTES_MAX (128u << 10) /* of one file, encoded */
#define XATTRS_SLOTS     256u
#define XATTRS_BUFFER    (4 + 12 + XATTRS_BYTES_MAX) /* length, header, attributes */

/** struct xattrs - the sets seen lately, so that files with the same attributes share them. */
struct xattrs {
	struct arena *arena;
	uint32_t slots[XATTRS_SLOTS];
	uint8_t buf[XATTRS_BUFFER];
};

/**
 * xattrs_add() - encode a file's attributes.
 * @list: sorted by this call.
 * @ret:  a reference for xattrs_get(); 0 when there are none.
 *
 * Kept are user.*, trusted.*, security.* and POSIX ACLs. What only another kind of system or of
 * file system knows is left out, as is trusted.overlay.*, which would steer the overlay that the
 * image will be a layer of. Errors: -EINVAL, -EFBIG (with the attribute's name), -ENOMEM.
 */
int xattrs_add(struct xattrs *x, struct tar_xattr *list, size_t n, uint32_t *ret,
	       struct smolvm_error *err);

/** xattrs_get() - the bytes that follow the inode; a multiple of four. */
const void *xattrs_get(const struct xattrs *x, uint32_t ref, uint32_t *ret_len);

#endif
