/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the state folder and the run folder are.
 */
#ifndef STORE_PLACE_H
#define STORE_PLACE_H

#include <stdbool.h>

#include <smolvm/error.h>

/* What fits in the address of a unix socket, its NUL apart. */
#define PLACE_SOCKET_PATH_MAX 107
/* What a machine adds to the run folder: "/", a name of 63 bytes, "/vm.sock". */
#define PLACE_RUN_DIR_MAX (PLACE_SOCKET_PATH_MAX - 1 - 63 - 8)

/**
 * place_home() - the state folder's absolute path, the folder made (0700) when missing.
 * @home: the caller's choice; NULL: the environment's.
 * @ret_chosen: somebody named this folder: it is not the one that every program of this user has.
 */
int place_home(const char *home, char **ret, bool *ret_chosen, struct smolvm_error *err);

/**
 * place_run_dir() - the folder for sockets and locks of machines, made when missing.
 * @chosen: as from place_home(): what runs is then kept in the state folder too.
 *
 * It belongs to this user alone, is 0700, and is at most PLACE_RUN_DIR_MAX bytes long: a folder
 * whose path is longer, or that cannot be written to, is replaced by a short one in
 * $XDG_RUNTIME_DIR or /tmp with a name made from @home.
 */
int place_run_dir(const char *home, bool chosen, char **ret, struct smolvm_error *err);

#endif
