/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Importing: from a source to a record and a file of the store.
 */
#ifndef IMAGE_IMPORT_H
#define IMAGE_IMPORT_H

#include <smolvm/smolvm.h>

#include "store/images.h"

/**
 * import_source() - bring what @what names into the store, unless it is there unchanged.
 * @options: never NULL.
 * @ret: its record.
 *
 * Errors: those of smolvm_image_import(); @err, never NULL, names the source.
 */
int import_source(struct smolvm *s, const char *what, const struct smolvm_import_options *options,
		  struct store_image *ret, struct smolvm_error *err);

/** import_base() - likewise the embedded image. */
int import_base(struct smolvm *s, const struct smolvm_import_options *options,
		struct store_image *ret, struct smolvm_error *err);

#endif
