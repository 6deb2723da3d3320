/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a source of images is: telling apart the forms that people have them in.
 */
#ifndef IMAGE_SOURCE_H
#define IMAGE_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include <smolvm/smolvm.h>

#include "image/reader.h"

/** enum source_kind - the forms. */
enum source_kind {
	SOURCE_LAYOUT_DIR, /* a directory with an OCI layout */
	SOURCE_TREE,       /* a directory that is a root file system */
	SOURCE_FILE,       /* a file or stream, not yet looked into */
	SOURCE_ARCHIVE,    /* an archive of images: "docker save" or an OCI layout */
	SOURCE_TAR,        /* a tar of a root file system */
};

/**
 * struct source - an open source.
 * @name:  what the caller called it, "#TAG" taken off, for messages.
 * @tag:   which of several images, or NULL.
 * @real:  its absolute path; NULL for a stream.
 * @fd:    the directory; the file; or what has been kept of the stream.
 * @owned: @fd is to be closed.
 * @size:  bytes in @fd, where it is no directory.
 * @stream_fd: where a stream goes on after @fd; -1: nothing does. Stays the caller's.
 * @state: how a file is recognised as unchanged ("" for others).
 */
struct source {
	enum source_kind kind;
	char *name;
	char *tag;
	char *real;
	int fd;
	bool owned;
	int64_t size;
	int stream_fd;
	char state[160];
};

/** source_exists() - is there a file or folder of the name @what, or of what is before its "#"? */
bool source_exists(const char *what);

/**
 * source_open() - open what a person names; "-" is @stdin_fd.
 *
 * Errors: -ENOENT, -EACCES, -EINVAL (a directory that is nothing of ours, a device), -ENOMEM.
 */
int source_open(struct source *ret, const char *what, int stdin_fd, const char *spool_dir,
		struct smolvm_error *err);
void source_close(struct source *s);

/**
 * source_look() - find out what a SOURCE_FILE is: sets @s->kind to one of the two after it.
 *
 * Reads as little of a stream as is needed, and keeps that. Errors: -EINVAL (neither: the
 * message says what it is), -EFBIG, -ENOSPC, -ECANCELED, -EIO.
 */
int source_look(struct source *s, struct meter *meter, struct smolvm_error *err);

/** source_keep() - read a stream to its end, so that @s->fd holds all of it. */
int source_keep(struct source *s, struct meter *meter, struct smolvm_error *err);

/** source_reader() - a reader of the whole file or stream. */
void source_reader(const struct source *s, struct reader *ret, struct meter *meter);

#endif
