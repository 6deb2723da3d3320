/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test judge: reads an EROFS image with a reader of its own and prints a manifest of it.
 *
 *	erofs_list IMAGE
 *
 * One line a path, in bytewise order within each directory; manifest.py prints the same of an
 * unpacked directory. Everything that the image format demands and that this reader relies on is
 * checked: order of entries, bounds, the superblock's checksum, link counts.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096u

static const uint8_t *image;
static uint64_t image_len, meta;
static uint64_t inodes_seen;

struct file {
	uint64_t nid, pos, size, mtime;
	uint32_t u, uid, gid, ns, nlink, xattr_len;
	uint16_t mode;
	unsigned int layout;
};

/* How often an inode was met, to compare with its link count in the end. */
struct seen {
	uint64_t nid;
	uint32_t times, nlink;
};
static struct seen *seen;
static size_t seen_cap;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "erofs_list: ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	exit(1);
}

static const uint8_t *at(uint64_t pos, uint64_t len)
{
	if (pos > image_len || len > image_len - pos)
		die("%llu bytes at %llu are beyond the end", (unsigned long long)len,
		    (unsigned long long)pos);
	return image + pos;
}

static uint64_t get(uint64_t pos, unsigned int bytes)
{
	const uint8_t *p = at(pos, bytes);
	uint64_t v = 0;

	while (bytes-- > 0)
		v = v << 8 | p[bytes];
	return v;
}

static struct file get_file(uint64_t nid)
{
	struct file f = { .nid = nid, .pos = meta + nid * 32 };
	unsigned int format = (unsigned int)get(f.pos, 2), icount = (unsigned int)get(f.pos + 2, 2);

	if (!(format & 1) || (format >> 1 != 0 && format >> 1 != 2))
		die("inode %llu: format %#x", (unsigned long long)nid, format);
	f.layout = format >> 1;
	f.xattr_len = icount ? 12 + 4 * (icount - 1) : 0;
	f.mode = (uint16_t)get(f.pos + 4, 2);
	f.size = get(f.pos + 8, 8);
	f.u = (uint32_t)get(f.pos + 16, 4);
	f.uid = (uint32_t)get(f.pos + 24, 4);
	f.gid = (uint32_t)get(f.pos + 28, 4);
	f.mtime = get(f.pos + 32, 8);
	f.ns = (uint32_t)get(f.pos + 40, 4);
	f.nlink = (uint32_t)get(f.pos + 44, 4);
	if (f.ns > 999999999)
		die("inode %llu: nanoseconds", (unsigned long long)nid);
	return f;
}

/* The @index-th block of a file; *@len bytes of it belong to the file. */
static const uint8_t *file_block(const struct file *f, uint64_t index, uint32_t *len)
{
	uint64_t left = f->size - index * BLOCK, pos;

	*len = left < BLOCK ? (uint32_t)left : BLOCK;
	pos = ((uint64_t)f->u + index) * BLOCK;
	if (f->layout == 2 && left <= BLOCK) {
		pos = f->pos + 64 + f->xattr_len;
		if (pos / BLOCK != (pos + *len - 1) / BLOCK)
			die("inode %llu: inline data crosses a block", (unsigned long long)f->nid);
	} else if (pos == 0) {
		die("inode %llu: data in block 0", (unsigned long long)f->nid);
	}
	return at(pos, *len);
}

static uint32_t crc_table[2][256]; /* 0: CRC-32, 1: CRC-32C */

static void make_tables(void)
{
	static const uint32_t polynomials[2] = { 0xedb88320u, 0x82f63b78u };
	unsigned int k, i, bit;

	for (k = 0; k < 2; k++) {
		for (i = 0; i < 256; i++) {
			uint32_t c = i;

			for (bit = 0; bit < 8; bit++)
				c = c & 1 ? c >> 1 ^ polynomials[k] : c >> 1;
			crc_table[k][i] = c;
		}
	}
}

static uint32_t crc(unsigned int k, uint32_t c, const uint8_t *p, size_t len)
{
	while (len-- > 0)
		c = crc_table[k][(c ^ *p++) & 0xff] ^ c >> 8;
	return c;
}

static void print_text(const uint8_t *p, size_t len)
{
	for (; len > 0; p++, len--) {
		if (*p > ' ' && *p < 0x7f && *p != '\\')
			putchar(*p);
		else
			printf("\\x%02x", *p);
	}
}

static void print_xattrs(const struct file *f)
{
	static const char *const prefixes[] = {
		NULL, "user.", "system.posix_acl_access", "system.posix_acl_default", "trusted.",
		NULL, "security.",
	};
	uint64_t pos = f->pos + 64, end = pos + f->xattr_len, i;
	const char *sep = "";

	if (f->xattr_len && get(pos + 4, 1) != 0)
		die("inode %llu: shared attributes", (unsigned long long)f->nid);
	for (pos += 12; pos < end; sep = ",") {
		uint64_t name_len = get(pos, 1), index = get(pos + 1, 1);
		uint64_t value_len = get(pos + 2, 2), value = pos + 4 + name_len;

		if (index >= 7 || !prefixes[index] || value + value_len > end)
			die("inode %llu: attribute", (unsigned long long)f->nid);
		printf("%s%s", sep, prefixes[index]);
		print_text(at(pos + 4, name_len), name_len);
		putchar('=');
		for (i = 0; i < value_len; i++)
			printf("%02x", *at(value + i, 1));
		pos = (value + value_len + 3) & ~3ull;
	}
	if (!*sep)
		putchar('-');
}

static void print_contents(const struct file *f)
{
	uint32_t c = UINT32_MAX, len;
	uint64_t i;

	if (S_ISLNK(f->mode)) {
		for (i = 0; i * BLOCK < f->size; i++) {
			const uint8_t *p = file_block(f, i, &len);

			print_text(p, len);
		}
	} else if (S_ISREG(f->mode)) {
		for (i = 0; i * BLOCK < f->size; i++) {
			const uint8_t *p = file_block(f, i, &len);

			c = crc(0, c, p, len);
		}
		printf("%08x", ~c);
	} else if (S_ISCHR(f->mode) || S_ISBLK(f->mode)) {
		printf("%u:%u", f->u >> 8 & 0xfff, (f->u & 0xff) | (f->u >> 12 & 0xfff00));
	} else {
		putchar('-');
	}
}

static const char *type_of(uint16_t mode, unsigned int *ret_dirent)
{
	static const struct {
		mode_t mode;
		unsigned int dirent;
		const char *name;
	} types[] = {
		{ S_IFREG, 1, "file" }, { S_IFDIR, 2, "dir" },  { S_IFCHR, 3, "char" },
		{ S_IFBLK, 4, "block" }, { S_IFIFO, 5, "fifo" }, { S_IFLNK, 7, "link" },
	};
	size_t i;

	for (i = 0; i < sizeof(types) / sizeof(*types); i++) {
		if (types[i].mode == (mode & S_IFMT)) {
			*ret_dirent = types[i].dirent;
			return types[i].name;
		}
	}
	die("mode %o", mode);
}

/* path, type, mode, uid, gid, mtime, size, links, contents, attributes */
static void print_file(const char *path, const struct file *f)
{
	unsigned int unused;

	print_text((const uint8_t *)path, strlen(path));
	printf(" %s %04o %u %u %lld.%09u ", type_of(f->mode, &unused), f->mode & 07777u, f->uid,
	       f->gid, (long long)f->mtime, f->ns);
	if (S_ISDIR(f->mode))
		printf("- - ");
	else
		printf("%llu %u ", (unsigned long long)f->size, f->nlink);
	print_contents(f);
	putchar(' ');
	print_xattrs(f);
	putchar('\n');
}

static void count_link(const struct file *f)
{
	size_t i = (f->nid * 0x9e3779b97f4a7c15ull >> 20) % seen_cap;

	while (seen[i].times && seen[i].nid != f->nid)
		i = (i + 1) % seen_cap;
	if (!seen[i].times++)
		inodes_seen++;
	seen[i].nid = f->nid;
	seen[i].nlink = f->nlink;
	if (S_ISDIR(f->mode) && seen[i].times > 1)
		die("directory %llu has two names", (unsigned long long)f->nid);
	if (inodes_seen >= seen_cap - 1)
		die("more inodes than the superblock says");
}

static void list(const char *path, const struct file *d, uint64_t parent);

static void visit(const char *path, const struct file *d, uint64_t parent, const char *name,
		  size_t len, uint64_t nid, unsigned int type, uint32_t *subdirs)
{
	struct file f;
	char *inner;
	unsigned int want;

	if (len == 1 && name[0] == '.') {
		if (nid != d->nid)
			die("%s: \".\"", path);
		return;
	}
	if (len == 2 && !memcmp(name, "..", 2)) {
		if (nid != parent)
			die("%s: \"..\"", path);
		return;
	}
	f = get_file(nid);
	type_of(f.mode, &want);
	if (want != type)
		die("%s/%.*s: type in the directory", path, (int)len, name);
	count_link(&f);
	if (asprintf(&inner, "%s/%.*s", path, (int)len, name) < 0)
		die("memory");
	print_file(inner, &f);
	if (S_ISDIR(f.mode)) {
		++*subdirs;
		list(inner, &f, d->nid);
	}
	free(inner);
}

static void list(const char *path, const struct file *d, uint64_t parent)
{
	char last[256] = "";
	size_t last_len = 0;
	uint32_t subdirs = 0, dots = 0, len;
	uint64_t b;

	for (b = 0; b * BLOCK < d->size; b++) {
		const uint8_t *block = file_block(d, b, &len);
		uint64_t base = (uint64_t)(block - image);
		uint32_t n = (uint32_t)get(base + 8, 2) / 12, i;

		for (i = 0; i < n; i++) {
			uint32_t from = (uint32_t)get(base + i * 12 + 8, 2), to = len;
			const char *name = (const char *)block + from;
			size_t name_len;
			int r;

			if (i + 1 < n)
				to = (uint32_t)get(base + (i + 1) * 12 + 8, 2);
			if (from >= to || to > len || from < n * 12)
				die("%s: offsets of names", path);
			name_len = strnlen(name, to - from);
			if (name_len == 0 || name_len > 255 || memchr(name, '/', name_len))
				die("%s: name", path);
			r = memcmp(last, name, last_len < name_len ? last_len : name_len);
			if (r > 0 || (r == 0 && last_len >= name_len))
				die("%s: order of names", path);
			memcpy(last, name, name_len);
			last_len = name_len;
			dots += name_len <= 2 && !memcmp(name, "..", name_len);
			visit(path, d, parent, name, name_len, get(base + i * 12, 8),
			      (unsigned int)get(base + i * 12 + 10, 1), &subdirs);
		}
	}
	if (dots != 2 || d->nlink != 2 + subdirs)
		die("%s: %u dots, %u links, %u subdirectories", path, dots, d->nlink, subdirs);
}

static void check_super(uint64_t *ret_root, uint64_t *ret_inos)
{
	uint32_t sum;
	static uint8_t copy[BLOCK - 1024];

	memcpy(copy, at(1024, sizeof(copy)), sizeof(copy));
	memset(copy + 4, 0, 4);
	sum = crc(1, UINT32_MAX, copy, sizeof(copy));
	if (get(1024, 4) != 0xe0f5e1e2 || get(1024 + 4, 4) != sum || get(1024 + 12, 1) != 12)
		die("superblock");
	if (get(1024 + 36, 4) * BLOCK != image_len)
		die("length of the image");
	meta = get(1024 + 40, 4) * BLOCK;
	*ret_root = get(1024 + 14, 2);
	*ret_inos = get(1024 + 16, 8);
}

int main(int argc, char **argv)
{
	int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
	uint64_t root, inos;
	struct file f;
	struct stat st;
	size_t i;

	if (fd < 0 || fstat(fd, &st) < 0)
		die("usage: erofs_list IMAGE");
	image_len = (uint64_t)st.st_size;
	image = mmap(NULL, image_len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (image == MAP_FAILED)
		die("mmap");
	make_tables();
	check_super(&root, &inos);
	seen_cap = 2 * inos + 16;
	seen = calloc(seen_cap, sizeof(*seen));
	if (!seen)
		die("memory");
	f = get_file(root);
	count_link(&f);
	print_file("/", &f);
	list("", &f, root);
	for (i = 0; i < seen_cap; i++)
		if (seen[i].times && !S_ISDIR(get_file(seen[i].nid).mode) &&
		    seen[i].times != seen[i].nlink)
			die("inode %llu has %u names and %u links", (unsigned long long)seen[i].nid,
			    seen[i].times, seen[i].nlink);
	if (inodes_seen != inos)
		die("%llu inodes, %llu in the superblock", (unsigned long long)inodes_seen,
		    (unsigned long long)inos);
	return 0;
}
