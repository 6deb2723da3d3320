/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that people take for images: what to say about them.
 */
#include "image/sniff.h"

#include <string.h>
#include <strings.h>

#define SNIFF_DISK "a disk image, not a root file system: mount it, and give smolvm a tar of its " \
		   "files"
#define SNIFF_FS   "a file system image: mount it, and give smolvm the folder or a tar of it"

struct magic {
	size_t offset;
	size_t len;
	const char *bytes;
	const char *text;
};

static const struct magic compressed[] = {
	{ 0, 2, "\x1f\x8b", "gzip" },
	{ 0, 4, "\x28\xb5\x2f\xfd", "zstd" },
	{ 0, 6, "\xfd" "7zXZ\0", "xz" },
	{ 0, 3, "BZh", "bzip2" },
	{ 0, 4, "\x04\x22\x4d\x18", "lz4" },
	{ 0, 4, "LZIP", "lzip" },
	{ 0, 3, "\x5d\x00\x00", "lzma" },
	{ 0, 2, "\x1f\x9d", "compress" },
	{ 0, 9, "\x89LZO\0\r\n\x1a\n", "lzop" },
};

static const struct magic known[] = {
	{ 0, 4, "\177ELF", "a program: put it into an image, or share it with -v" },
	{ 0, 4, "PK\3\4", "a zip archive: unpack it and give smolvm the folder, or a tar" },
	{ 0, 4, "Rar!", "a rar archive: unpack it and give smolvm the folder, or a tar" },
	{ 0, 6, "7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it and give smolvm the folder" },
	{ 0, 4, "QFI\xfb", "a qcow2 disk image: mount it, and give smolvm a tar of its files" },
	{ 0, 4, "KDMV", "a VMDK disk image: mount it, and give smolvm a tar of its files" },
	{ 0, 8, "conectix", "a VHD disk image: mount it, and give smolvm a tar of its files" },
	{ 0, 8, "vhdxfile", "a VHDX disk image: mount it, and give smolvm a tar of its files" },
	{ 32769, 5, "CD001", "an ISO image: smolvm runs container images and root file systems" },
	{ 0, 4, "hsqs", "a squashfs file: unpack it (unsquashfs) and give smolvm the folder" },
	{ 1024, 4, "\xe2\xe1\xf5\xe0", SNIFF_FS },
	{ 1080, 2, "\x53\xef", SNIFF_FS },
	{ 0, 4, "XFSB", SNIFF_FS },
	{ 0, 5, "07070", "a cpio archive: unpack it and give smolvm the folder" },
	{ 0, 7, "!<arch>", "an ar archive or a Debian package, not an image" },
	{ 0, 4, "\xed\xab\xee\xdb", "an RPM package, not an image" },
	{ 0, 4, "%PDF", "a PDF document" },
	{ 0, 15, "SQLite format 3", "a database" },
	{ 0, 2, "#!", "a script: put it into an image, or share it with -v" },
	{ 0, 2, "MZ", "a Windows program" },
	{ 510, 2, "\x55\xaa", SNIFF_DISK },
};

static const struct magic *match(const struct magic *table, size_t n, const char *p, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (table[i].offset + table[i].len <= len &&
		    memcmp(p + table[i].offset, table[i].bytes, table[i].len) == 0)
			return &table[i];
	return NULL;
}

bool sniff_is_compressed(const void *head, size_t len)
{
	return match(compressed, sizeof(compressed) / sizeof(*compressed), head, len);
}

static bool is_text(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)p[i];

		if (c < 0x20 && !strchr("\t\n\r\f\33", c))
			return false;
		if (c == 0)
			return false;
	}
	return true;
}

/* Its first instruction is FROM, after arguments and comments. */
static bool is_dockerfile(const char *p, size_t len)
{
	const char *end = p + len;

	while (p < end) {
		const char *eol = memchr(p, '\n', (size_t)(end - p));
		size_t left;

		while (p < end && strchr(" \t\r", *p) && *p)
			p++;
		left = (size_t)(end - p);
		if (left > 5 && strncasecmp(p, "FROM ", 5) == 0)
			return true;
		if (left > 0 && *p != '#' && *p != '\n' &&
		    !(left > 4 && strncasecmp(p, "ARG ", 4) == 0))
			return false;
		if (!eol)
			return false;
		p = eol + 1;
	}
	return false;
}

const char *sniff_name(const void *head, size_t len)
{
	const struct magic *m = match(known, sizeof(known) / sizeof(*known), head, len);

	if (len == 0)
		return "empty";
	if (m)
		return m->text;
	if (!is_text(head, len))
		return "not in a format that smolvm knows (a tar archive in any compression, a "
		       "'docker save' archive, an OCI layout)";
	if (is_dockerfile(head, len))
		return "a Dockerfile: build the image first (docker build, podman build or "
		       "buildah), save it, and give smolvm the archive";
	if (*(const char *)head == '{' || *(const char *)head == '[')
		return "a JSON document: give smolvm the whole OCI layout or archive";
	return "a text, not an image";
}
