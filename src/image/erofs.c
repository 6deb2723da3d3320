/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EROFS: uncompressed, 4 KiB blocks, extended inodes, everything where it can be read directly.
 *
 *	block 0         superblock, at byte 1024
 *	blocks 1..      contents of files, each from a block boundary (FLAT_PLAIN)
 *	meta_block..    inodes: 64 bytes, then attributes, then what is small (FLAT_INLINE):
 *	                contents, targets of links, the last piece of a directory; the root first,
 *	                because the superblock has 16 bits for its number
 *	behind them     directories' full blocks, and pieces too large to go beside an inode
 *
 * An inode's number (nid) is its distance from meta_block in units of 32 bytes. What is inline must
 * lie in one block, so space may be left in front of an inode. The work is three passes over the
 * tree, directory by directory: sort and measure, place, write.
 */
#include "image/erofs.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fd.h"
#include "image/out.h"

#define EROFS_MAGIC        0xe0f5e1e2u
#define EROFS_SB_OFFSET    1024u
#define EROFS_COMPAT       0x3u /* SB_CHKSUM | MTIME */
#define EROFS_BLOCK_BITS   12u
#define EROFS_BLOCK        (1u << EROFS_BLOCK_BITS)
#define EROFS_SLOT         32u /* unit of inode numbers */
#define EROFS_BLOCKS_MAX   UINT32_MAX
#define EROFS_VOLUME       "smolvm"

/* i_format: bit 0 an extended inode, bits 1-3 the layout */
#define EROFS_FORMAT_PLAIN  (1u | 0u << 1)
#define EROFS_FORMAT_INLINE (1u | 2u << 1)

/* The root's place: number 0 would be a directory entry that means nothing to readdir(3). */
#define ROOT_POSITION 64u

/* What always finds a place in one block behind an inode, whatever its attributes' length. */
#define INLINE_MAX (EROFS_BLOCK - 64u)

struct disk_super {
	uint32_t magic;
	uint32_t checksum;
	uint32_t feature_compat;
	uint8_t blkszbits;
	uint8_t sb_extslots;
	uint16_t root_nid;
	uint64_t inos;
	uint64_t build_time;
	uint32_t build_time_nsec;
	uint32_t blocks;
	uint32_t meta_blkaddr;
	uint32_t xattr_blkaddr;
	uint8_t uuid[16];
	uint8_t volume_name[16];
	uint32_t feature_incompat;
	uint8_t unused[44];
};
_Static_assert(sizeof(struct disk_super) == 128, "superblock");

struct disk_inode {
	uint16_t format;
	uint16_t xattr_icount;
	uint16_t mode;
	uint16_t reserved;
	uint64_t size;
	uint32_t u; /* first block, or device number */
	uint32_t ino;
	uint32_t uid;
	uint32_t gid;
	uint64_t mtime;
	uint32_t mtime_nsec;
	uint32_t nlink;
	uint8_t reserved2[16];
};
_Static_assert(sizeof(struct disk_inode) == 64, "inode");

struct disk_dirent {
	uint64_t nid;
	uint16_t nameoff;
	uint8_t file_type;
	uint8_t reserved;
} __attribute__((packed));
_Static_assert(sizeof(struct disk_dirent) == 12, "directory entry");

/**
 * struct writer - the state of the passes.
 * @dirs:       every directory, parents before what is in them.
 * @meta_bytes: end of the inodes placed so far.
 * @far_block:  first block behind the inodes; @n_far blocks are taken from there on.
 */
struct writer {
	const struct erofs_source *s;
	struct tree *t;
	uint32_t *dirs;
	size_t n_dirs, cap_dirs;
	uint64_t meta_bytes, far_block, n_far;
	uint32_t n_inodes;
	struct out meta, far;
};

/* --- entries of a directory in order, with "." and ".." --- */

struct entries {
	const struct tree *t;
	uint32_t dir, next;
	unsigned int dots; /* how many of the two were given */
};

struct entry {
	const char *text;
	unsigned int len;
	uint32_t inode;
};

static struct entries entries_of(const struct tree *t, uint32_t dir)
{
	return (struct entries){ .t = t, .dir = dir, .next = tree_inode(t, dir)->dir.names };
}

static bool entries_next(struct entries *e, struct entry *ret)
{
	const struct name *n = e->next ? tree_name(e->t, e->next) : NULL;
	unsigned int len = e->dots + 1;

	if (e->dots < 2 && (!n || name_compare("..", len, tree_text(e->t, n), n->len) < 0)) {
		ret->text = "..";
		ret->len = len;
		ret->inode = e->dots ? tree_inode(e->t, e->dir)->dir.parent : e->dir;
		e->dots++;
		return true;
	}
	if (!n)
		return false;
	ret->text = tree_text(e->t, n);
	ret->len = n->len;
	ret->inode = n->inode;
	e->next = n->right;
	return true;
}

/* --- first pass: sort, count, measure --- */

static int add_dir(struct writer *w, uint32_t dir)
{
	uint32_t *dirs;
	size_t cap;

	if (w->n_dirs == w->cap_dirs) {
		cap = w->cap_dirs ? 2 * w->cap_dirs : 1024;
		dirs = realloc(w->dirs, cap * sizeof(*dirs));
		if (!dirs)
			return -ENOMEM;
		w->dirs = dirs;
		w->cap_dirs = cap;
	}
	w->dirs[w->n_dirs++] = dir;
	return 0;
}

static void measure_dir(struct writer *w, uint32_t dir)
{
	struct inode *d = tree_inode(w->t, dir);
	struct entries e = entries_of(w->t, dir);
	uint32_t used = 0, blocks = 0;
	struct entry en;

	while (entries_next(&e, &en)) {
		uint32_t need = (uint32_t)sizeof(struct disk_dirent) + en.len;

		if (used + need > EROFS_BLOCK) {
			blocks++;
			used = 0;
		}
		used += need;
	}
	d->dir.blocks = blocks;
	d->dir.tail = used;
}

static int prepare(struct writer *w)
{
	int r = add_dir(w, TREE_ROOT);
	size_t i;

	for (i = 0; !r && i < w->n_dirs; i++) {
		struct inode *d = tree_inode(w->t, w->dirs[i]);
		uint32_t name = tree_flatten(w->t, w->dirs[i]);

		for (; !r && name; name = tree_name(w->t, name)->right) {
			if (!S_ISDIR(tree_inode(w->t, tree_name(w->t, name)->inode)->mode))
				continue;
			d->dir.subdirs++;
			r = add_dir(w, tree_name(w->t, name)->inode);
		}
		measure_dir(w, w->dirs[i]);
	}
	return r;
}

/* --- second pass: place --- */

/* Bytes of a file that could go beside the inode; those of a directory, of its last block. */
static uint32_t tail_of(const struct inode *i)
{
	if (S_ISREG(i->mode))
		return i->place == PLACE_SPOOL ? (uint32_t)i->file.size : 0;
	if (S_ISLNK(i->mode))
		return i->link.len;
	return S_ISDIR(i->mode) ? i->dir.tail : 0;
}

static uint32_t inline_of(const struct inode *i)
{
	uint32_t tail = tail_of(i);

	return tail <= INLINE_MAX ? tail : 0;
}

/* Blocks behind the inodes for what does not go beside one; numbered from 0 until then. */
static void place_far(struct writer *w, struct inode *i)
{
	uint32_t far = inline_of(i) ? 0 : tail_of(i) > 0;

	if (S_ISDIR(i->mode)) {
		i->dir.first_block = (uint32_t)w->n_far;
		far += i->dir.blocks;
	} else if (S_ISLNK(i->mode)) {
		i->link.first_block = (uint32_t)w->n_far;
	}
	w->n_far += far;
}

static uint64_t find_place(uint64_t pos, uint32_t xattrs, uint32_t tail)
{
	pos = (pos + EROFS_SLOT - 1) & ~(uint64_t)(EROFS_SLOT - 1);
	for (;;) {
		uint64_t left = EROFS_BLOCK - pos % EROFS_BLOCK;
		uint64_t at = pos + sizeof(struct disk_inode) + xattrs;

		if (left >= sizeof(struct disk_inode) && at % EROFS_BLOCK + tail <= EROFS_BLOCK)
			return pos;
		if (sizeof(struct disk_inode) + xattrs + tail <= EROFS_BLOCK)
			pos += left;
		else
			pos += EROFS_SLOT;
	}
}

static int place(struct writer *w, uint32_t inode, struct smolvm_error *err)
{
	struct inode *i = tree_inode(w->t, inode);
	uint32_t xattrs;
	uint64_t pos;

	if (i->nid)
		return 0; /* another name of it came before */
	xattrs_get(w->s->xattrs, i->xattrs, &xattrs);
	pos = find_place(w->meta_bytes, xattrs, inline_of(i));
	if (pos / EROFS_SLOT > UINT32_MAX || w->n_far > EROFS_BLOCKS_MAX)
		return err_set(err, EFBIG, "the image is too large");
	i->nid = (uint32_t)(pos / EROFS_SLOT);
	w->meta_bytes = pos + sizeof(struct disk_inode) + xattrs + inline_of(i);
	w->n_inodes++;
	place_far(w, i);
	return 0;
}

static int for_each_inode(struct writer *w, struct smolvm_error *err,
			  int (*fn)(struct writer *w, uint32_t inode, struct smolvm_error *err))
{
	int r = fn(w, TREE_ROOT, err);
	size_t i;

	for (i = 0; !r && i < w->n_dirs; i++) {
		uint32_t name = tree_inode(w->t, w->dirs[i])->dir.names;

		for (; !r && name; name = tree_name(w->t, name)->right)
			r = fn(w, tree_name(w->t, name)->inode, err);
	}
	return r;
}

/* --- third pass: write --- */

static uint8_t file_type(mode_t mode)
{
	static const struct {
		mode_t mode;
		uint8_t type;
	} types[] = {
		{ S_IFREG, 1 }, { S_IFDIR, 2 }, { S_IFCHR, 3 },
		{ S_IFBLK, 4 }, { S_IFIFO, 5 }, { S_IFLNK, 7 },
	};
	size_t i;

	for (i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (types[i].mode == (mode & S_IFMT))
			return types[i].type;
	return 0;
}

/* One block of a directory: its entries, then their names. Return: the bytes used. */
static uint32_t fill_dir_block(struct entries *e, uint8_t *block)
{
	struct entries ahead = *e;
	uint32_t used = 0, n = 0, i, at;
	struct entry en;

	while (entries_next(&ahead, &en)) {
		used += (uint32_t)sizeof(struct disk_dirent) + en.len;
		if (used > EROFS_BLOCK)
			break;
		n++;
	}
	at = n * (uint32_t)sizeof(struct disk_dirent);
	for (i = 0; i < n && entries_next(e, &en); i++) {
		const struct inode *in = tree_inode(e->t, en.inode);
		struct disk_dirent de = {
			.nid = htole64(in->nid),
			.nameoff = htole16((uint16_t)at),
			.file_type = file_type(in->mode),
		};

		memcpy(block + i * sizeof(de), &de, sizeof(de));
		memcpy(block + at, en.text, en.len);
		at += en.len;
	}
	return at;
}

static int write_dir(struct writer *w, uint32_t dir, struct smolvm_error *err)
{
	const struct inode *d = tree_inode(w->t, dir);
	struct entries e = entries_of(w->t, dir);
	uint8_t block[EROFS_BLOCK];
	uint32_t used, i;
	int r;

	for (i = 0; i < d->dir.blocks; i++) {
		used = fill_dir_block(&e, block);
		r = out_write(&w->far, block, used, err);
		if (!r)
			r = out_pad(&w->far, EROFS_BLOCK, err);
		if (r < 0)
			return r;
	}
	used = fill_dir_block(&e, block);
	if (inline_of(d))
		return out_write(&w->meta, block, used, err);
	r = out_write(&w->far, block, used, err);
	return r < 0 ? r : out_pad(&w->far, EROFS_BLOCK, err);
}

static int write_tail(struct writer *w, uint32_t inode, struct smolvm_error *err)
{
	const struct inode *i = tree_inode(w->t, inode);
	const void *data;
	int r;

	if (S_ISDIR(i->mode))
		return write_dir(w, inode, err);
	if (tail_of(i) == 0)
		return 0;
	if (S_ISREG(i->mode)) {
		r = spool_read(w->s->spool, i->file.pos, i->file.size, &data, err);
		return r < 0 ? r : out_write(&w->meta, data, i->file.size, err);
	}
	data = arena_get(&w->t->arena, i->link.target);
	if (inline_of(i))
		return out_write(&w->meta, data, i->link.len, err);
	r = out_write(&w->far, data, i->link.len, err);
	return r < 0 ? r : out_pad(&w->far, EROFS_BLOCK, err);
}

/* The kernel's "new" encoding of 12 and 20 bits. */
static uint32_t device_number(const struct inode *i)
{
	return (i->dev.minor & 0xff) | i->dev.major << 8 | (i->dev.minor & ~0xffu) << 12;
}

static void fill_inode(const struct writer *w, const struct inode *i, struct disk_inode *d)
{
	uint64_t size = 0;
	uint32_t u = 0;

	if (S_ISREG(i->mode)) {
		size = i->file.size;
		u = i->place == PLACE_BLOCKS ? (uint32_t)i->file.pos : 0;
	} else if (S_ISDIR(i->mode)) {
		size = (uint64_t)i->dir.blocks * EROFS_BLOCK + i->dir.tail;
		u = (uint32_t)w->far_block + i->dir.first_block;
	} else if (S_ISLNK(i->mode)) {
		size = i->link.len;
		u = (uint32_t)w->far_block + i->link.first_block;
	} else {
		u = device_number(i);
	}
	d->format = htole16(inline_of(i) ? EROFS_FORMAT_INLINE : EROFS_FORMAT_PLAIN);
	d->mode = htole16(i->mode);
	d->size = htole64(size);
	d->u = htole32(u);
	d->uid = htole32(i->uid);
	d->gid = htole32(i->gid);
	d->mtime = htole64((uint64_t)i->mtime_s);
	d->mtime_nsec = htole32(i->mtime_ns);
	d->nlink = htole32(S_ISDIR(i->mode) ? 2 + i->dir.subdirs : i->nlink);
}

static int write_inode(struct writer *w, uint32_t inode, struct smolvm_error *err)
{
	const struct inode *i = tree_inode(w->t, inode);
	uint64_t here = out_position(&w->meta) - w->s->meta_block * EROFS_BLOCK;
	uint64_t pos = (uint64_t)i->nid * EROFS_SLOT;
	struct disk_inode d = { 0 };
	const void *xattrs;
	uint32_t len;
	int r;

	if (pos < here)
		return 0; /* written under another name */
	xattrs = xattrs_get(w->s->xattrs, i->xattrs, &len);
	fill_inode(w, i, &d);
	d.ino = htole32(++w->n_inodes);
	if (len) /* one for the header of 12 bytes, and one for each four after it */
		d.xattr_icount = htole16((uint16_t)((len - 12) / 4 + 1));
	r = out_zeroes(&w->meta, pos - here, err);
	if (!r)
		r = out_write(&w->meta, &d, sizeof(d), err);
	if (!r && len)
		r = out_write(&w->meta, xattrs, len, err);
	return r < 0 ? r : write_tail(w, inode, err);
}

/* CRC-32C as EROFS uses it: not inverted at the end. */
static uint32_t crc32c(const uint8_t *p, size_t len)
{
	uint32_t crc = UINT32_MAX;
	int bit;

	while (len-- > 0) {
		crc ^= *p++;
		for (bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return crc;
}

static int write_super(const struct writer *w, uint64_t blocks, struct smolvm_error *err)
{
	struct disk_super sb = {
		.magic = htole32(EROFS_MAGIC),
		.feature_compat = htole32(EROFS_COMPAT),
		.blkszbits = EROFS_BLOCK_BITS,
		.root_nid = htole16(ROOT_POSITION / EROFS_SLOT),
		.inos = htole64(w->n_inodes),
		.blocks = htole32((uint32_t)blocks),
		.meta_blkaddr = htole32((uint32_t)w->s->meta_block),
		.volume_name = EROFS_VOLUME,
	};
	uint8_t block[EROFS_BLOCK] = { 0 };
	int r;

	memcpy(block + EROFS_SB_OFFSET, &sb, sizeof(sb));
	sb.checksum = htole32(crc32c(block + EROFS_SB_OFFSET, EROFS_BLOCK - EROFS_SB_OFFSET));
	memcpy(block + EROFS_SB_OFFSET, &sb, sizeof(sb));
	r = fd_pwrite_all(w->s->fd, block, sizeof(block), 0);
	if (r == 0 && ftruncate(w->s->fd, (off_t)(blocks * EROFS_BLOCK)) < 0)
		r = -errno;
	if (r < 0) {
		errno = -r;
		return err_sys(err, "writing the image");
	}
	return 0;
}

static int write_all(struct writer *w, uint64_t *ret_bytes, struct smolvm_error *err)
{
	const struct erofs_source *s = w->s;
	uint64_t blocks;
	int r;

	w->meta_bytes = ROOT_POSITION;
	r = for_each_inode(w, err, place);
	if (r < 0)
		return r;
	w->far_block = s->meta_block + (w->meta_bytes + EROFS_BLOCK - 1) / EROFS_BLOCK;
	blocks = w->far_block + w->n_far;
	if (blocks > EROFS_BLOCKS_MAX)
		return err_set(err, EFBIG, "the image is too large");
	r = out_init(&w->meta, s->fd, s->meta_block * EROFS_BLOCK, UINT64_MAX, err);
	if (!r)
		r = out_init(&w->far, s->fd, w->far_block * EROFS_BLOCK, UINT64_MAX, err);
	if (!r)
		r = out_zeroes(&w->meta, ROOT_POSITION, err);
	w->n_inodes = 0;
	if (!r)
		r = for_each_inode(w, err, write_inode);
	if (!r)
		r = out_pad(&w->meta, EROFS_BLOCK, err);
	if (!r)
		r = out_flush(&w->meta, err);
	if (!r)
		r = out_flush(&w->far, err);
	if (!r)
		r = write_super(w, blocks, err);
	if (!r)
		*ret_bytes = blocks * EROFS_BLOCK;
	return r;
}

int erofs_write(const struct erofs_source *source, uint64_t *ret_bytes, struct smolvm_error *err)
{
	struct writer w = { .s = source, .t = source->tree };
	int r = prepare(&w);

	r = r < 0 ? err_nomem(err) : write_all(&w, ret_bytes, err);
	out_fini(&w.meta);
	out_fini(&w.far);
	free(w.dirs);
	return r;
}
