/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "Did you mean ...?"
 */
#ifndef CLI_SUGGEST_H
#define CLI_SUGGEST_H

/**
 * struct suggestion - the nearest to a word that was not understood.
 * @word: what was written; @best: the nearest so far, NULL while nothing is near enough.
 */
struct suggestion {
	const char *word;
	const char *best;
	unsigned int distance;
};

void suggestion_init(struct suggestion *s, const char *word);

/** suggestion_try() - is @candidate nearer? It is kept by reference. */
void suggestion_try(struct suggestion *s, const char *candidate);

/** suggest_distance() - letters to add, drop, change or swap; words over 63 bytes are far away. */
unsigned int suggest_distance(const char *a, const char *b);

#endif
