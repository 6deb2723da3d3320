/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A few threads and a list of jobs.
 *
 * The list holds the jobs that no thread has begun; idle threads sleep on @work. As many are woken
 * as there are new jobs, no more than sleep: a thread that is busy looks at the list again before
 * it sleeps.
 */
#include "virtio/pool.h"

#include <stdlib.h>

#include "base/err.h"

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct pool_batch jobs;
	unsigned int idle, users, n_threads;
	bool ending;
	pthread_t threads[POOL_THREADS];
};

void pool_add(struct pool_batch *batch, struct pool_job *job)
{
	job->next = NULL;
	if (batch->last)
		batch->last->next = job;
	else
		batch->first = job;
	batch->last = job;
	batch->n++;
}

static struct pool_job *next_job(struct pool *p)
{
	struct pool_job *job = p->jobs.first;

	p->jobs.first = job->next;
	if (!p->jobs.first)
		p->jobs.last = NULL;
	p->jobs.n--;
	return job;
}

static void *work(void *ctx)
{
	struct pool *p = ctx;

	pthread_mutex_lock(&p->lock);
	while (!p->ending) {
		struct pool_job *job;

		if (!p->jobs.first) {
			p->idle++;
			pthread_cond_wait(&p->work, &p->lock);
			p->idle--;
			continue;
		}
		job = next_job(p);
		pthread_mutex_unlock(&p->lock);
		job->run(job);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

void pool_submit(struct pool *p, struct pool_batch *batch)
{
	unsigned int wake;

	if (!batch->first)
		return;
	pthread_mutex_lock(&p->lock);
	if (p->jobs.last)
		p->jobs.last->next = batch->first;
	else
		p->jobs.first = batch->first;
	p->jobs.last = batch->last;
	p->jobs.n += batch->n;
	wake = batch->n < p->idle ? batch->n : p->idle;
	pthread_mutex_unlock(&p->lock);
	*batch = (struct pool_batch){ 0 };
	while (wake--)
		pthread_cond_signal(&p->work);
}

static void destroy(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->ending = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned int i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

int pool_ref(struct virtio_env *env, struct smolvm_error *err)
{
	struct pool *p = env->pool;

	if (p) {
		p->users++;
		return 0;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_nomem(err);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	while (p->n_threads < POOL_THREADS) {
		pthread_t *t = &p->threads[p->n_threads];
		int r = virtio_thread(env, SMOLVM_VMM_THREAD_WORKER, t, work, p);

		if (r < 0) {
			destroy(p);
			return err_set(err, -r, "no threads for the disks");
		}
		p->n_threads++;
	}
	p->users = 1;
	env->pool = p;
	return 0;
}

void pool_unref(struct virtio_env *env)
{
	struct pool *p = env->pool;

	if (!p || --p->users)
		return;
	env->pool = NULL;
	destroy(p);
}
