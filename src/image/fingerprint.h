/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling whether a directory has changed without reading its files.
 */
#ifndef IMAGE_FINGERPRINT_H
#define IMAGE_FINGERPRINT_H

#include <smolvm/error.h>

#include "image/digest.h"

#define FINGERPRINT_DEPTH_MAX 256

/**
 * fingerprint_tree() - a digest over name, type, mode, owner, size, device, inode and times of
 * everything in a directory.
 * @dir_fd: stays the caller's.
 *
 * Errors: -EACCES and others of the file system, -EFBIG (too deep), -ENOMEM.
 */
int fingerprint_tree(int dir_fd, char ret[DIGEST_LEN + 1], struct smolvm_error *err);

#endif
