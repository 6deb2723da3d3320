/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What smolvm says to people: messages, tables, amounts, colours.
 */
#ifndef CLI_SHOW_H
#define CLI_SHOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <smolvm/error.h>

#define SHOW_COLUMNS 80 /* what text is folded at */

/** enum colour - only used where show_colour() says so. */
enum colour { COLOUR_NONE, COLOUR_BOLD, COLOUR_GREEN, COLOUR_YELLOW, COLOUR_RED };

/** show_message() - "smolvm: ..." on standard error, one line. */
void show_message(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** show_error() - show_message() for an error object. */
void show_error(const struct smolvm_error *err);

/**
 * show_finish() - see that everything printed has arrived; says so when it has not.
 * Return: 0 or -errno.
 */
int show_finish(void);

/** show_colour() - the sequence for @c on @f: "" unless it is a terminal and NO_COLOR is unset. */
const char *show_colour(FILE *f, enum colour c);
/** show_plain() - the sequence that ends what show_colour() began. */
const char *show_plain(FILE *f);

/** show_text() - print what came from outside: control characters become '?'. */
void show_text(FILE *f, const char *text);

/**
 * show_fold() - print a paragraph, folded between words at SHOW_COLUMNS.
 * @indent: columns in front of every line but the first.
 * @column: where the cursor is now.
 */
void show_fold(FILE *f, unsigned int indent, unsigned int column, const char *text);

/** show_size() - "12.3 MB" (decimal units). @buf: 16 bytes. Return: @buf. */
const char *show_size(char buf[16], uint64_t bytes);

/** show_age() - "3 hours ago". @buf: 32 bytes. Return: @buf. */
const char *show_age(char buf[32], int64_t then_s, int64_t now_s);

#endif
