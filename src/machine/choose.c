/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Choosing where to run a machine.
 *
 * Measuring KVM takes some milliseconds where it is fine and a hundred where it is not, so the
 * result is kept in the state folder with the id of this boot. A good one holds until the next
 * boot; a bad one may have come from a host that was busy just then, and holds for an hour. Who
 * asks what is wrong (smolvm doctor) has it measured anew. Permission is looked at every time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"
#include "machine/machine.h"
#include "store/lock.h"
#include "store/store.h"

#define CACHE_FILE "kvm-probe"
#define CACHE_MAX 128
#define BAD_LASTS_S 3600

static int cache_read(const char *path, const char *boot_id, struct backend_host *host)
{
	AUTO_FREE char *text = NULL;
	size_t n = strlen(boot_id);
	struct backend_host found = *host;
	struct stat st;
	int64_t age_s;

	if (file_read(path, CACHE_MAX, &text) < 0 || strncmp(text, boot_id, n) || text[n] != ' ' ||
	    stat(path, &st) < 0)
		return -ENOENT;
	if (backend_host_recall(&found, (int)strtol(text + n + 1, NULL, 10)) < 0)
		return -ENOENT;
	age_s = (int64_t)time(NULL) - st.st_mtim.tv_sec;
	if (!found.kvm_usable && (age_s < 0 || age_s >= BAD_LASTS_S))
		return -ENOENT;
	*host = found;
	return 0;
}

/* What cannot be kept is measured again the next time. */
static void cache_write(const struct smolvm *s, const char *path, const char *boot_id, int verdict)
{
	AUTO_FREE char *temp = NULL;
	AUTO_FD fd = -1;
	char text[CACHE_MAX];
	int n = snprintf(text, sizeof(text), "%s %d\n", boot_id, verdict);

	if (temp_create(s->tmp_dir, &temp, &fd) < 0)
		return;
	if (fd_write_all(fd, text, (size_t)n) < 0 || rename(temp, path) < 0)
		unlink(temp);
}

void choose_host(const struct smolvm *s, bool anew, struct backend_host *ret)
{
	AUTO_FREE char *path = s ? path_join(s->home, CACHE_FILE) : NULL;
	AUTO_FREE char *boot_id = NULL;

	backend_host_look(ret);
	if (!ret->kvm_worth_measuring)
		return;
	if (!path || file_read("/proc/sys/kernel/random/boot_id", 64, &boot_id) < 0) {
		backend_host_measure(ret);
		return;
	}
	boot_id[strcspn(boot_id, "\n")] = '\0';
	if (!anew && cache_read(path, boot_id, ret) == 0)
		return;
	backend_host_measure(ret);
	if (!s->read_only)
		cache_write(s, path, boot_id, ret->kvm_verdict);
}

static int no_such_backend(const char *name, struct smolvm_error *err)
{
	char known[128] = "";
	size_t n = 0;

	for (const struct backend *const *b = backend_table; *b && n < sizeof(known); b++)
		n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "",
				      (*b)->name);
	return err_set(err, EINVAL, "no backend \"%s\"; there is: %s", name, known);
}

int choose_backend(const struct smolvm *s, const char *name, const struct backend **ret,
		   struct backend_probe *ret_probe, struct smolvm_error *err)
{
	const struct backend *asked = NULL;
	struct backend_probe probe;
	struct backend_host host;

	if (!name || !*name)
		name = getenv("SMOLVM_BACKEND");
	if (name && *name) {
		asked = backend_find(name);
		if (!asked)
			return no_such_backend(name, err);
	}
	choose_host(s, false, &host);
	for (const struct backend *const *b = backend_table; *b; b++) {
		if (asked && *b != asked)
			continue;
		(*b)->probe(&host, &probe);
		if (probe.usable) {
			*ret = *b;
			*ret_probe = probe;
			return 0;
		}
		err_set(err, ENOENT, "backend %s: %s", (*b)->name, probe.text);
	}
	return -ENOENT;
}
