/* What the benchmark calls of another system: loops of tasks whose bodies are functions of the caller's, over tiles that are his. */

#ifndef PEER_H
#define PEER_H

#include <stddef.h>
#include <time.h>

typedef void (*body_one)(void *);
typedef void (*body_two)(const void *, void *);
typedef void (*body_three)(const void *, const void *, void *);

/* Begins with so many threads that run tasks; 0 if it cannot. */
int peer_begin(unsigned threads);
/* c += a b, each of n x n tiles; the time from the first spawn to the end of the last task, in ns. */
double peer_matmul(size_t n, void **a, void **b, void **c, body_three gemm);
/* Takes the lower tiles of n x n to those of the Cholesky factor; the time as above. */
double peer_cholesky(size_t n, void **a, body_one potrf, body_two trsm, body_three gemm);
/* Spawns the tasks of `peer_matmul`; how long the spawning thread had a core until all were spawned, in ns. */
double peer_planning(size_t n, void **a, void **b, void **c, body_three gemm);

static double ns_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

#endif
