/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state folder: what smolvm_open() opens.
 *
 *	smolvm.db           records (store/db.h)
 *	images/<hex>.erofs  root file systems, named by the digits of the image's id
 *	tmp/                imports under way, each a file whose lock is held
 *	scratch/            disks that machines start from
 *	run/                machines that run; where no SMOLVM_HOME was named they are in
 *	                    $XDG_RUNTIME_DIR/smolvm, if there is one
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>

#include <smolvm/smolvm.h>

struct db;

/**
 * struct smolvm - an open state folder.
 * @home:      absolute, without symbolic links; the folders below are in it.
 * @run_dir:   for sockets, short enough for "@run_dir/<name of 63 bytes>/vm.sock".
 * @db:        the records, see store/db.h.
 * @read_only: nothing in @home can be changed: only what is there can be used.
 */
struct smolvm {
	char *home;
	char *images_dir, *tmp_dir, *scratch_dir;
	char *run_dir;
	struct db *db;
	bool read_only;
};

/** store_run_dir() - where machines have their folders (rundir_create()); this user's alone. */
const char *store_run_dir(const struct smolvm *s);

/** store_scratch_dir() - for disks that machines start from; may be missing if @s is read-only. */
const char *store_scratch_dir(const struct smolvm *s);

/** store_need_write() - Return: 0, or -EROFS with a message saying why @what cannot be done. */
int store_need_write(const struct smolvm *s, const char *what, struct smolvm_error *err);

#endif
