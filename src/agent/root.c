/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's root file system: the image (EROFS, read-only) under a layer that takes the
 * writes, as an overlay.
 *
 * The overlay is made the root first and everything else is mounted from inside it: whatever links
 * an image may hold where mount points should be, they cannot lead out of it. The mounts below it
 * (the initramfs with the image and the writable layer) stay, out of everybody's sight.
 */
#include "agent/root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"

#define LOWER	"/lower"
#define RW	"/rw"
#define UPPER	RW "/upper"
#define WORK	RW "/work"
#define NEWROOT "/newroot"

/*
 * What overlayfs does not do by default although programs expect it of a root: renaming the
 * image's directories, and one device number for the whole of it. Changing the owner of a file
 * need not copy its contents.
 */
#define OVERLAY_OPTIONS \
	"lowerdir=" LOWER ",upperdir=" UPPER ",workdir=" WORK ",redirect_dir=on,metacopy=on,xino=on"
/* A sparse disk must not fill up with zeroes behind the machine's back. */
#define EXT4_OPTIONS "noinit_itable,noauto_da_alloc"

/*
 * What one page fault in a program of the image reads around it, in sectors of 512 bytes. A request
 * costs far more than its bytes do: programs of a few MiB start in a third less time than with the
 * kernel's own 128 KiB.
 */
#define READ_AHEAD_SECTORS 2048ul

struct mount_step {
	const char *target, *type;
	unsigned long flags;
	const char *options;
};

#define KERNEL_FS (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static const struct mount_step system_mounts[] = {
	{ "/proc", "proc", KERNEL_FS, NULL },
	{ "/sys", "sysfs", KERNEL_FS, NULL },
	{ "/sys/fs/cgroup", "cgroup2", KERNEL_FS, "nsdelegate" },
	{ "/dev", "devtmpfs", MS_NOSUID, NULL },
	{ "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666" },
	{ "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777" },
	{ "/dev/mqueue", "mqueue", KERNEL_FS, NULL },
};

/* With a read-only root. */
static const struct mount_step scratch_mounts[] = {
	{ "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777" },
	{ "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755" },
	{ "/var/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777" },
};

static const char *const dev_links[][2] = {
	{ "/proc/self/fd", "/dev/fd" },
	{ "/proc/self/fd/0", "/dev/stdin" },
	{ "/proc/self/fd/1", "/dev/stdout" },
	{ "/proc/self/fd/2", "/dev/stderr" },
};

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

int root_make_dirs(const char *path)
{
	return path_make_dirs(path, 0755);
}

/* Most images have the mount points: make one only when it turns out to be missing. */
static int mount_at(const struct mount_step *m, struct smolvm_error *err)
{
	int rc = 0;

	if (mount(m->type, m->target, m->type, m->flags, m->options) == 0)
		return 0;
	if (errno == ENOENT) {
		rc = root_make_dirs(m->target);
		if (rc == 0 && mount(m->type, m->target, m->type, m->flags, m->options) == 0)
			return 0;
	}
	if (rc < 0)
		errno = -rc;
	return err_sys(err, "mounting %s on %s", m->type, m->target);
}

static int mount_all(const struct mount_step *steps, size_t n, struct smolvm_error *err)
{
	for (size_t i = 0; i < n; i++) {
		int rc = mount_at(&steps[i], err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The writable layer's own root is what the machine's root looks like: give it the image's. */
static int make_upper(struct smolvm_error *err)
{
	struct stat st;

	if ((mkdir(UPPER, 0755) < 0 && errno != EEXIST) ||
	    (mkdir(WORK, 0700) < 0 && errno != EEXIST))
		return err_sys(err, "making the writable layer");
	if (stat(LOWER, &st) < 0)
		return err_sys(err, "looking at the image");
	if ((st.st_mode & 07777) != 0755 && chmod(UPPER, st.st_mode & 07777) < 0)
		return err_sys(err, "making the writable layer");
	if ((st.st_uid || st.st_gid) && chown(UPPER, st.st_uid, st.st_gid) < 0)
		return err_sys(err, "making the writable layer");
	return 0;
}

/* A new file, whatever was there. */
static void write_file(const char *path, const char *text)
{
	AUTO_FD fd = -1;

	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd >= 0)
		fd_write_all(fd, text, strlen(text));
}

/*
 * The host name's two files go straight into the writable layer, under a copy of the image's /etc:
 * through the overlay it would be as easy and take twice as long. An image may have anything there
 * and a machine works without: no failure is reported.
 */
static void write_names(const char *hostname)
{
	struct stat st = { .st_mode = S_IFDIR | 0755 };
	char text[512];

	if (lstat(LOWER "/etc", &st) == 0 && !S_ISDIR(st.st_mode))
		return;
	if (mkdir(UPPER "/etc", 0755) == 0) {
		if ((st.st_mode & 07777) != 0755)
			chmod(UPPER "/etc", st.st_mode & 07777);
		if ((st.st_uid || st.st_gid) && chown(UPPER "/etc", st.st_uid, st.st_gid) < 0)
			return;
	} else if (lstat(UPPER "/etc", &st) < 0 || !S_ISDIR(st.st_mode)) {
		return;
	}
	snprintf(text, sizeof(text), "%s\n", hostname);
	write_file(UPPER "/etc/hostname", text);
	snprintf(text, sizeof(text), "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost "
		 "ip6-loopback\n127.0.1.1\t%s\n", hostname);
	write_file(UPPER "/etc/hosts", text);
}

static void read_far_ahead(const char *device)
{
	AUTO_FD fd = open(device, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		ioctl(fd, BLKRASET, READ_AHEAD_SECTORS); /* without it things are slower, no more */
}

static int mount_layers(const struct setup *s, int *ret_rw_fd, struct smolvm_error *err)
{
	const char *disk = s->read_only ? NULL : s->write_device;
	int rc;

	read_far_ahead(s->root_device);
	if (mount(s->root_device, LOWER, "erofs", MS_RDONLY | MS_NOATIME, NULL) < 0)
		return err_sys(err, "mounting the image (%s)", s->root_device);
	if (disk && mount(disk, RW, "ext4", MS_NOATIME, EXT4_OPTIONS) < 0)
		return err_sys(err, "mounting the disk for writes (%s)", disk);
	if (!disk && mount("tmpfs", RW, "tmpfs", MS_NOATIME, "mode=755") < 0)
		return err_sys(err, "mounting memory for writes");
	rc = make_upper(err);
	if (rc < 0)
		return rc;
	if (s->hostname)
		write_names(s->hostname);
	if (mount("overlay", NEWROOT, "overlay", 0, OVERLAY_OPTIONS) < 0)
		return err_sys(err, "mounting the root file system");
	if (disk)
		*ret_rw_fd = open(RW, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return 0;
}

static int switch_root(struct smolvm_error *err)
{
	if (chdir(NEWROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		return err_sys(err, "changing to the root file system");
	return 0;
}

static int fill_root(const struct setup *s, struct smolvm_error *err)
{
	int rc = mount_all(system_mounts, COUNT(system_mounts), err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < COUNT(dev_links); i++)
		if (symlink(dev_links[i][0], dev_links[i][1]) < 0 && errno != EEXIST)
			return err_sys(err, "making %s", dev_links[i][1]);
	if (s->read_only)
		return mount_all(scratch_mounts, COUNT(scratch_mounts), err);
	if (mkdir("/tmp", 0755) == 0 && chmod("/tmp", 01777) < 0)
		return err_sys(err, "making /tmp");
	return 0;
}

int root_mount(const struct setup *s, int *ret_rw_fd, struct smolvm_error *err)
{
	int rc = mount_layers(s, ret_rw_fd, err);

	if (rc == 0)
		rc = switch_root(err);
	if (rc == 0)
		rc = fill_root(s, err);
	return rc;
}

int root_make_read_only(struct smolvm_error *err)
{
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0)
		return err_sys(err, "making the root file system read-only");
	return 0;
}
