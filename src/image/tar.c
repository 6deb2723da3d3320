/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar archives through libarchive.
 *
 * Up to three stages, each handing blocks to the next without copying:
 *
 *	source -> decompression (gzip.c, or libarchive's "raw" format; none for a plain tar)
 *	       -> libarchive's tar format
 *
 * Two reasons for stages of our own. A plain tar must stay seekable, and a compressed one must be
 * decompressed to its very end, past the end of the archive in it, so that checksums are verified
 * and whoever hashes the source sees all of it.
 *
 * Names are bytes. libarchive wants to convert the UTF-8 of PAX headers to the locale's character
 * set, and composes accents on the way; in the "C" locale no conversion of anything but ASCII
 * succeeds, and it then hands out the bytes as they are, with a warning. So each call into it runs
 * in that locale (of this thread only), and that one warning is expected.
 */
#include "image/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "image/gzip.h"

#define TAR_BLOCK          512u
#define TAR_XATTRS_MAX     256u
#define TAR_TRAILING_MAX   (64ull << 20) /* decompressed bytes after the end of the archive */
#define TAR_ACL_MAX        1024u
#define TAR_ACL_BYTES      (4 + 8 * TAR_ACL_MAX)

/* Linux' form of an ACL in an extended attribute (include/uapi/linux/posix_acl_xattr.h). */
#define ACL_XATTR_VERSION 2u

struct tar {
	struct tar_source source;
	struct smolvm_error source_err; /* why the last read failed, where it did */
	locale_t c_locale;

	unsigned char peeked[TAR_BLOCK]; /* the first bytes, read to tell what this is */
	size_t n_peeked;
	const void *rest; /* of the block in which the peek ended */
	size_t n_rest;
	int peek_stage;

	struct gzip *gz;
	struct archive *raw; /* decompression, or NULL */
	struct archive *ar;
	bool ended, complete;

	struct tar_xattr *xattrs;
	size_t n_xattrs;
	unsigned char *acl[2];
};

/* --- stage 1: the source, with the bytes that were looked at put back in front --- */

static ssize_t read_source(void *ctx, const void **ret, struct smolvm_error *err)
{
	struct tar *t = ctx;

	if (t->peek_stage == 0) {
		t->peek_stage = 1;
		if (t->n_peeked) {
			*ret = t->peeked;
			return (ssize_t)t->n_peeked;
		}
	}
	if (t->peek_stage == 1) {
		t->peek_stage = 2;
		if (t->n_rest) {
			*ret = t->rest;
			return (ssize_t)t->n_rest;
		}
	}
	return t->source.read(t->source.ctx, ret, err);
}

static int peek(struct tar *t, struct smolvm_error *err)
{
	const void *block;
	size_t take;
	ssize_t n;

	while (t->n_peeked < TAR_BLOCK && t->n_rest == 0) {
		n = t->source.read(t->source.ctx, &block, err);
		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		take = TAR_BLOCK - t->n_peeked;
		take = (size_t)n < take ? (size_t)n : take;
		memcpy(t->peeked + t->n_peeked, block, take);
		t->n_peeked += take;
		t->rest = (const char *)block + take;
		t->n_rest = (size_t)n - take;
	}
	return t->n_peeked ? 0 : err_set(err, EINVAL, "the archive is empty");
}

/* A tar header by its checksum (POSIX ustar: the sum of its bytes, the field taken as blanks). */
static bool is_tar_header(const unsigned char *b, size_t len)
{
	unsigned int sum = 8 * ' ', want = 0;
	bool zero = true;
	size_t i;

	if (len < TAR_BLOCK)
		return false;
	for (i = 0; i < TAR_BLOCK; i++) {
		zero = zero && !b[i];
		if (i < 148 || i >= 156)
			sum += b[i];
	}
	for (i = 148; i < 156 && b[i] == ' '; i++)
		;
	for (; i < 156 && b[i] >= '0' && b[i] <= '7'; i++)
		want = want * 8 + (b[i] - '0');
	return zero || want == sum;
}

/* --- libarchive's callbacks --- */

static la_ssize_t pass_on(struct tar *t, struct archive *a, ssize_t n)
{
	if (n >= 0)
		return n;
	archive_set_error(a, (int)-n, "%s", t->source_err.message);
	return ARCHIVE_FATAL;
}

static la_ssize_t cb_source(struct archive *a, void *ctx, const void **ret)
{
	struct tar *t = ctx;

	return pass_on(t, a, read_source(t, ret, &t->source_err));
}

static la_ssize_t cb_gzip(struct archive *a, void *ctx, const void **ret)
{
	struct tar *t = ctx;

	return pass_on(t, a, gzip_read(t->gz, ret, &t->source_err));
}

static la_int64_t cb_skip(struct archive *a, void *ctx, la_int64_t n)
{
	struct tar *t = ctx;
	la_int64_t done = 0, more;

	if (t->peek_stage == 0 || n <= 0)
		return 0;
	if (t->peek_stage == 1) { /* what was put back first */
		done = n < (la_int64_t)t->n_rest ? n : (la_int64_t)t->n_rest;
		t->rest = (const char *)t->rest + done;
		t->n_rest -= (size_t)done;
		t->peek_stage = t->n_rest ? 1 : 2;
	}
	if (done == n)
		return done;
	more = t->source.skip(t->source.ctx, n - done);
	return more > 0 ? done + more : done;
}

/* What libarchive says, or what the source said when that is what failed. */
static int fail(const struct tar *t, struct archive *a, struct smolvm_error *err)
{
	const char *why;

	if (t->source_err.code) {
		if (err)
			*err = t->source_err;
		return -t->source_err.code;
	}
	why = archive_error_string(a);
	if (!why)
		why = "damaged archive";
	if (archive_errno(a) == ENOMEM)
		return err_nomem(err);
	return err_set(err, EINVAL, "%s", why);
}

static ssize_t read_raw(struct tar *t, const void **ret)
{
	la_int64_t offset;
	size_t n = 0;
	int r;

	do
		r = archive_read_data_block(t->raw, ret, &n, &offset);
	while (r == ARCHIVE_OK && n == 0);
	if (r == ARCHIVE_EOF)
		return 0;
	return r == ARCHIVE_OK ? (ssize_t)n : fail(t, t->raw, &t->source_err);
}

static la_ssize_t cb_raw(struct archive *a, void *ctx, const void **ret)
{
	return pass_on(ctx, a, read_raw(ctx, ret));
}

/* --- opening --- */

static int open_raw(struct tar *t, struct smolvm_error *err)
{
	static int (*const filters[])(struct archive *) = {
		archive_read_support_filter_bzip2, archive_read_support_filter_compress,
		archive_read_support_filter_lz4,   archive_read_support_filter_lzma,
		archive_read_support_filter_xz,    archive_read_support_filter_zstd,
	};
	struct archive_entry *e;
	size_t i;

	t->raw = archive_read_new();
	if (!t->raw)
		return err_nomem(err);
	for (i = 0; i < sizeof(filters) / sizeof(*filters); i++)
		filters[i](t->raw);
	archive_read_support_format_raw(t->raw);
	if (archive_read_open2(t->raw, t, NULL, cb_source, NULL, NULL) != ARCHIVE_OK ||
	    archive_read_next_header(t->raw, &e) != ARCHIVE_OK)
		return fail(t, t->raw, err);
	if (archive_filter_code(t->raw, 0) == ARCHIVE_FILTER_NONE)
		return err_set(err, EINVAL, "neither a tar archive nor a compressed one");
	return 0;
}

static int open_stages(struct tar *t, struct smolvm_error *err)
{
	const struct tar_source self = { .read = read_source, .ctx = t };
	la_ssize_t (*read)(struct archive *, void *, const void **) = cb_source;
	bool plain = false;
	int r = peek(t, err);

	if (r < 0)
		return r;
	if (is_tar_header(t->peeked, t->n_peeked)) {
		plain = true;
	} else if (t->n_peeked >= 3 && !memcmp(t->peeked, "\x1f\x8b\x08", 3)) {
		r = gzip_open(&t->gz, &self, err);
		read = cb_gzip;
	} else {
		r = open_raw(t, err);
		read = cb_raw;
	}
	if (r < 0)
		return r;
	t->ar = archive_read_new();
	if (!t->ar)
		return err_nomem(err);
	archive_read_support_format_tar(t->ar);
	if (archive_read_open2(t->ar, t, NULL, read, plain && t->source.skip ? cb_skip : NULL,
			       NULL) != ARCHIVE_OK)
		return fail(t, t->ar, err);
	return 0;
}

int tar_open(struct tar **ret, const struct tar_source *source, struct smolvm_error *err)
{
	struct tar *t = calloc(1, sizeof(*t));
	locale_t old;
	int r;

	if (!t)
		return err_nomem(err);
	t->source = *source;
	t->xattrs = calloc(TAR_XATTRS_MAX, sizeof(*t->xattrs));
	t->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (!t->xattrs || t->c_locale == (locale_t)0) {
		tar_close(t);
		return err_nomem(err);
	}
	old = uselocale(t->c_locale);
	r = open_stages(t, err);
	uselocale(old);
	if (r < 0) {
		tar_close(t);
		return r;
	}
	*ret = t;
	return 0;
}

void tar_close(struct tar *t)
{
	if (!t)
		return;
	if (t->ar)
		archive_read_free(t->ar);
	if (t->raw)
		archive_read_free(t->raw);
	gzip_close(t->gz);
	if (t->c_locale != (locale_t)0)
		freelocale(t->c_locale);
	free(t->acl[0]);
	free(t->acl[1]);
	free(t->xattrs);
	free(t);
}

/* --- entries --- */

static int add_xattr(struct tar *t, const char *name, const void *value, size_t len)
{
	if (t->n_xattrs >= TAR_XATTRS_MAX)
		return -E2BIG;
	t->xattrs[t->n_xattrs++] = (struct tar_xattr){ name, value, len };
	return 0;
}

static void put_le(unsigned char *p, uint32_t v, unsigned int bytes)
{
	for (; bytes > 0; bytes--, v >>= 8)
		*p++ = (unsigned char)v;
}

static uint32_t acl_tag(int tag)
{
	static const struct {
		int tag;
		uint32_t linux_tag;
	} tags[] = {
		{ ARCHIVE_ENTRY_ACL_USER_OBJ, 0x01 },  { ARCHIVE_ENTRY_ACL_USER, 0x02 },
		{ ARCHIVE_ENTRY_ACL_GROUP_OBJ, 0x04 }, { ARCHIVE_ENTRY_ACL_GROUP, 0x08 },
		{ ARCHIVE_ENTRY_ACL_MASK, 0x10 },      { ARCHIVE_ENTRY_ACL_OTHER, 0x20 },
	};
	size_t i;

	for (i = 0; i < sizeof(tags) / sizeof(*tags); i++)
		if (tags[i].tag == tag)
			return tags[i].linux_tag;
	return 0;
}

static int compare_acl(const void *a, const void *b)
{
	const unsigned char *x = a, *y = b;
	int i;

	if (x[0] != y[0])
		return x[0] - y[0];
	for (i = 7; i >= 4; i--)
		if (x[i] != y[i])
			return x[i] - y[i];
	return 0;
}

/*
 * An ACL that libarchive decoded, back in the kernel's form: 0. One that names a user without a
 * number cannot be kept, nor can one of a form Linux does not have: it is left out.
 */
static int add_acl(struct tar *t, struct archive_entry *e, int type, const char *xattr,
		   unsigned char **mem)
{
	int got_type, perms, tag, id, n = 0;
	unsigned char *p;
	const char *name;

	if (archive_entry_acl_reset(e, type) == 0)
		return 0;
	if (!*mem)
		*mem = malloc(TAR_ACL_BYTES);
	if (!*mem)
		return -ENOMEM;
	p = *mem;
	put_le(p, ACL_XATTR_VERSION, 4);
	while (archive_entry_acl_next(e, type, &got_type, &perms, &tag, &id, &name) == ARCHIVE_OK) {
		uint32_t linux_tag = acl_tag(tag);
		bool named = linux_tag == 0x02 || linux_tag == 0x08;

		if (!linux_tag || (named && id < 0))
			return 0;
		if (n >= (int)TAR_ACL_MAX)
			return -E2BIG;
		put_le(p + 4 + 8 * n, linux_tag, 2);
		put_le(p + 4 + 8 * n + 2, (uint32_t)perms & 7, 2);
		put_le(p + 4 + 8 * n + 4, named ? (uint32_t)id : UINT32_MAX, 4);
		n++;
	}
	if (n == 0)
		return 0;
	qsort(p + 4, (size_t)n, 8, compare_acl);
	return add_xattr(t, xattr, p, 4 + 8 * (size_t)n);
}

static int take_xattrs(struct tar *t, struct archive_entry *e)
{
	const char *name;
	const void *value;
	size_t len;
	int r = 0;

	t->n_xattrs = 0;
	archive_entry_xattr_reset(e);
	while (!r && archive_entry_xattr_next(e, &name, &value, &len) == ARCHIVE_OK)
		r = add_xattr(t, name, value, len);
	if (!r)
		r = add_acl(t, e, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, "system.posix_acl_access",
			    &t->acl[0]);
	if (!r)
		r = add_acl(t, e, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, "system.posix_acl_default",
			    &t->acl[1]);
	return r;
}

static int take_entry(struct tar *t, struct archive_entry *e, struct tar_entry *ret,
		      struct smolvm_error *err)
{
	la_int64_t uid = archive_entry_uid(e), gid = archive_entry_gid(e);
	const char *path = archive_entry_pathname(e);
	int r;

	if (!path)
		return err_set(err, EINVAL, "an entry without a name");
	if (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
		return err_set(err, EINVAL, "%.200s: owner %lld:%lld is out of range", path,
			       (long long)uid, (long long)gid);
	memset(ret, 0, sizeof(*ret));
	ret->path = path;
	ret->mode = archive_entry_mode(e);
	ret->hardlink = archive_entry_hardlink(e);
	if (ret->hardlink)
		ret->mode &= 07777;
	if (S_ISLNK(ret->mode))
		ret->symlink = archive_entry_symlink(e);
	ret->uid = (uint32_t)uid;
	ret->gid = (uint32_t)gid;
	if (S_ISREG(ret->mode))
		ret->size = archive_entry_size(e);
	if (ret->size < 0)
		return err_set(err, EINVAL, "%.200s: negative size", path);
	ret->mtime_s = archive_entry_mtime(e);
	ret->mtime_ns = (uint32_t)archive_entry_mtime_nsec(e);
	if (ret->mtime_ns > 999999999)
		ret->mtime_ns = 0;
	ret->rdev_major = (uint32_t)archive_entry_rdevmajor(e);
	ret->rdev_minor = (uint32_t)archive_entry_rdevminor(e);
	ret->offset = archive_entry_sparse_count(e) ? -1 : archive_filter_bytes(t->ar, 0);
	r = take_xattrs(t, e);
	if (r == -ENOMEM)
		return err_nomem(err);
	if (r < 0)
		return err_set(err, EINVAL, "%.200s: too many extended attributes", path);
	ret->xattrs = t->xattrs;
	ret->n_xattrs = t->n_xattrs;
	return 1;
}

/* The bytes after the archive are read, not looked at (zeroes, mostly). */
static int drain(struct tar *t, struct smolvm_error *err)
{
	uint64_t left = TAR_TRAILING_MAX;
	const void *block;
	ssize_t n;

	t->ended = true;
	for (;;) {
		t->source_err.code = 0;
		if (t->gz)
			n = gzip_read(t->gz, &block, err);
		else if (t->raw && (n = read_raw(t, &block)) < 0)
			return fail(t, t->raw, err);
		else if (!t->raw)
			n = read_source(t, &block, err);
		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		if ((uint64_t)n > left)
			return err_set(err, EFBIG, "too much data after the end of the archive");
		left -= (uint64_t)n;
	}
	while (t->raw) {
		n = read_source(t, &block, err);
		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
	}
	return 0;
}

/* The one warning that is expected; see above. */
static bool is_charset_warning(struct archive *a)
{
	const char *s = archive_error_string(a);

	return s && strstr(s, "can't be converted");
}

int tar_next(struct tar *t, struct tar_entry *ret, struct smolvm_error *err)
{
	struct archive_entry *e = NULL;
	locale_t old;
	int r;

	if (t->ended)
		return 0;
	old = uselocale(t->c_locale);
	r = archive_read_next_header(t->ar, &e);
	if (r == ARCHIVE_EOF) {
		/* the mark is a block of zeroes; libarchive takes a missing one for an end too */
		t->complete = archive_filter_bytes(t->ar, 0) >=
			      archive_read_header_position(t->ar) + (la_int64_t)TAR_BLOCK;
		r = drain(t, err);
	} else if (r == ARCHIVE_OK || (r == ARCHIVE_WARN && is_charset_warning(t->ar))) {
		r = take_entry(t, e, ret, err);
	} else {
		r = fail(t, t->ar, err);
		if (e && archive_entry_pathname(e))
			err_prefix(err, "%.200s", archive_entry_pathname(e));
	}
	uselocale(old);
	return r;
}

ssize_t tar_data(struct tar *t, const void **ret, int64_t *ret_offset, struct smolvm_error *err)
{
	locale_t old = uselocale(t->c_locale);
	la_int64_t offset = 0;
	const void *block = NULL;
	size_t n = 0;
	ssize_t done;
	int r;

	do
		r = archive_read_data_block(t->ar, &block, &n, &offset);
	while (r == ARCHIVE_OK && n == 0);
	if (r == ARCHIVE_EOF) {
		done = 0;
	} else if (r == ARCHIVE_OK) {
		*ret = block;
		*ret_offset = offset;
		done = (ssize_t)n;
	} else {
		done = fail(t, t->ar, err);
	}
	uselocale(old);
	return done;
}

bool tar_complete(const struct tar *t)
{
	return t->complete;
}
