/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk that takes a machine's writes: an empty ext4, sparse and without a name.
 *
 * Making a file system takes tens of milliseconds, copying an empty one less than one: so one of
 * each size is kept in the state folder and copied, its holes left holes; a few sizes, the newest.
 * It has no journal, which a disk that nobody will ever mount again does not need. The copy is
 * unlinked from the start: whatever becomes of the processes that have it open, nothing is left
 * behind.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/proc.h"
#include "machine/machine.h"
#include "store/lock.h"
#include "store/store.h"

#define MAKE_TIMEOUT_MS 60000
/* A new version whenever the way in which it is made changes. */
#define TEMPLATE_VERSION 1u
#define TEMPLATE_NAME "empty-%u-%u.ext4" /* version, MiB */
#define TEMPLATE_NAME_MAX 40
#define TEMPLATES_MAX 8

static int make_file_system(const char *path, unsigned int mib, struct smolvm_error *err)
{
	AUTO_FREE char *tool = path_find_tool("mke2fs");
	char size[32];
	const char *const argv[] = {
		"mke2fs",
		"-q",
		"-F",
		"-t",
		"ext4",
		"-m",
		"0",
		"-L",
		"smolvm",
		"-O",
		"^has_journal,^resize_inode,^metadata_csum,uninit_bg,sparse_super2",
		"-E",
		"lazy_itable_init=1,nodiscard,num_backup_sb=0,root_owner=0:0",
		path,
		size,
		NULL
	};
	struct proc_config config = { .path = tool, .argv = argv };
	int status;

	if (!tool)
		return err_set(err, ENOENT,
			       "mke2fs is not installed: 'sudo apt-get install e2fsprogs'");
	snprintf(size, sizeof(size), "%um", mib);
	status = proc_run(&config, MAKE_TIMEOUT_MS, err);
	if (status < 0)
		return status;
	if (status != 0)
		return err_set(err, EIO,
			       "mke2fs could not make a disk of %u MiB in %s; is its disk full?",
			       mib, path);
	return 0;
}

/**
 * struct old_template - one that is there, and its age.
 */
struct old_template {
	char name[TEMPLATE_NAME_MAX];
	struct timespec made;
};

/* Which version @name is a template of; -1: it is none. */
static int64_t template_version(const char *name)
{
	char again[TEMPLATE_NAME_MAX];
	unsigned int version, mib;
	char *end;

	if (strlen(name) >= sizeof(again) || strncmp(name, "empty-", 6) != 0)
		return -1;
	version = (unsigned int)strtoul(name + 6, &end, 10);
	mib = *end == '-' ? (unsigned int)strtoul(end + 1, NULL, 10) : 0;
	snprintf(again, sizeof(again), TEMPLATE_NAME, version, mib);
	return strcmp(name, again) == 0 ? (int64_t)version : -1;
}

static bool is_older(const struct old_template *a, const struct old_template *b)
{
	return a->made.tv_sec != b->made.tv_sec ? a->made.tv_sec < b->made.tv_sec
						: a->made.tv_nsec < b->made.tv_nsec;
}

/* Leaves the newest TEMPLATES_MAX; who is about to copy another one has it open. */
static void drop_templates(const char *dir)
{
	struct old_template kept[TEMPLATES_MAX];
	DIR *d = opendir(dir);
	struct dirent *e;
	size_t n = 0;

	while (d && (e = readdir(d))) {
		int64_t version = template_version(e->d_name);
		struct old_template this, *oldest = kept;
		struct stat st;

		if (version < 0 || version > TEMPLATE_VERSION)
			continue;
		if (version < TEMPLATE_VERSION) {
			unlinkat(dirfd(d), e->d_name, 0);
			continue;
		}
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		snprintf(this.name, sizeof(this.name), "%.*s", (int)sizeof(this.name) - 1,
			 e->d_name);
		this.made = st.st_mtim;
		if (n < TEMPLATES_MAX) {
			kept[n++] = this;
			continue;
		}
		for (size_t i = 1; i < n; i++)
			if (is_older(&kept[i], oldest))
				oldest = &kept[i];
		if (is_older(&this, oldest))
			oldest = &this;
		unlinkat(dirfd(d), oldest->name, 0);
		*oldest = this;
	}
	if (d)
		closedir(d);
}

/* A template that a power cut has left half written is none. Return: a descriptor or -1. */
static int open_whole(const char *path, unsigned int mib)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_size != (off_t)mib << 20))
		fd_close(&fd);
	return fd;
}

/* Return: a descriptor of the template of that size, made when missing. */
static int open_template(const struct smolvm *s, unsigned int mib, struct smolvm_error *err)
{
	AUTO_FREE char *path = NULL, *temp = NULL;
	AUTO_FD temp_fd = -1;
	char name[TEMPLATE_NAME_MAX];
	int fd, rc;

	snprintf(name, sizeof(name), TEMPLATE_NAME, TEMPLATE_VERSION, mib);
	path = path_join(store_scratch_dir(s), name);
	if (!path)
		return err_nomem(err);
	fd = open_whole(path, mib);
	if (fd >= 0)
		return fd;
	rc = temp_create(s->tmp_dir, &temp, &temp_fd);
	if (rc < 0)
		return err_set(err, -rc, "cannot make a disk in %s: %s", s->tmp_dir, strerror(-rc));
	rc = make_file_system(temp, mib, err);
	fd = rc < 0 ? rc : open(temp, O_RDONLY | O_CLOEXEC);
	if (rc < 0 || fd < 0 || rename(temp, path) < 0) {
		if (rc == 0)
			rc = err_sys(err, "cannot keep %s", path);
		if (fd >= 0)
			close(fd);
		unlink(temp);
		return rc;
	}
	drop_templates(store_scratch_dir(s));
	return fd;
}

/* Return: a descriptor of a new file without a name in @dir. */
static int open_nameless(const char *dir, struct smolvm_error *err)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	AUTO_FREE char *path = NULL;

	if (fd >= 0)
		return fd;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
		return err_sys(err, "cannot make a disk in %s", dir);
	path = path_join(dir, "disk.XXXXXX");
	fd = path ? mkostemp(path, O_CLOEXEC) : -1;
	if (fd < 0)
		return err_sys(err, "cannot make a disk in %s", dir);
	unlink(path);
	return fd;
}

static int copy_sparse(int from, int to, struct smolvm_error *err)
{
	struct stat st;
	off_t at = 0;

	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
		return err_sys(err, "cannot make a machine's disk");
	while ((at = lseek(from, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(from, at, SEEK_HOLE);

		while (at < end) {
			char bytes[65536];
			size_t want = (size_t)(end - at) < sizeof(bytes) ? (size_t)(end - at)
									 : sizeof(bytes);
			ssize_t n = fd_pread_full(from, bytes, want, at);
			int rc = n <= 0 ? -EIO : fd_pwrite_all(to, bytes, (size_t)n, at);

			if (rc < 0)
				return err_set(err, -rc, "cannot make a machine's disk: %s",
					       strerror(-rc));
			at += n;
		}
	}
	return errno == ENXIO ? 0 : err_sys(err, "cannot make a machine's disk");
}

static int scratch_in_run_dir(const struct smolvm *s, unsigned int mib, struct smolvm_error *err)
{
	AUTO_FD fd = open_nameless(store_run_dir(s), err);
	char path[64];
	int rc;

	if (fd < 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), fd);
	rc = make_file_system(path, mib, err);
	return rc < 0 ? rc : fd_take(&fd);
}

/* The disk is sparse, but a file of its whole size all the same. */
static int check_file_limit(unsigned int mib, struct smolvm_error *err)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
	    limit.rlim_cur >= (rlim_t)mib << 20)
		return 0;
	return err_set(err, EFBIG,
		       "files may not be larger than %llu MiB here (ulimit -f), and the "
		       "machine's disk has %u MiB: raise that, or give less --storage",
		       (unsigned long long)limit.rlim_cur >> 20, mib);
}

int scratch_create(const struct smolvm *s, unsigned int mib, struct smolvm_error *err)
{
	AUTO_FD template = -1;
	AUTO_FD fd = -1;
	int rc = check_file_limit(mib, err);

	if (rc < 0)
		return rc;
	if (s->read_only)
		return scratch_in_run_dir(s, mib, err);
	template = open_template(s, mib, err);
	if (template <0)
		return template;
	fd = open_nameless(store_scratch_dir(s), err);
	if (fd < 0)
		return fd;
	rc = copy_sparse(template, fd, err);
	return rc < 0 ? rc : fd_take(&fd);
}
