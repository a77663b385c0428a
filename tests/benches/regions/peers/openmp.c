/* The loops in OpenMP tasks: of each tile its first byte stands for it in the dependencies. */

#include <unistd.h>

#include "peer.h"

static unsigned thread_count = 1;

int peer_begin(unsigned threads) {
    thread_count = threads;
    return 1;
}

/* Threads look for tasks for some milliseconds when there are no more, and take the cores of whoever is measured next. */
static double rested(double took) {
    usleep(50000);
    return took;
}

static void spawn_products(size_t n, void **a, void **b, void **c, body_three gemm) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            for (size_t k = 0; k < n; k++) {
                const char *x = a[i * n + k], *y = b[k * n + j];
                char *z = c[i * n + j];
#pragma omp task depend(in : x[0], y[0]) depend(inout : z[0]) firstprivate(x, y, z)
                gemm(x, y, z);
            }
}

double peer_matmul(size_t n, void **a, void **b, void **c, body_three gemm) {
    double began = ns_of(CLOCK_MONOTONIC);
#pragma omp parallel num_threads(thread_count)
#pragma omp single
    spawn_products(n, a, b, c, gemm);
    return rested(ns_of(CLOCK_MONOTONIC) - began);
}

double peer_planning(size_t n, void **a, void **b, void **c, body_three gemm) {
    double took = 0;
#pragma omp parallel num_threads(thread_count)
#pragma omp single
    /* The first time fills the caches. */
    for (int round = 0; round < 2; round++) {
        double began = ns_of(CLOCK_THREAD_CPUTIME_ID);
        spawn_products(n, a, b, c, gemm);
        took = ns_of(CLOCK_THREAD_CPUTIME_ID) - began;
#pragma omp taskwait
    }
    return rested(took);
}

double peer_cholesky(size_t n, void **a, body_one potrf, body_two trsm, body_three gemm) {
    double began = ns_of(CLOCK_MONOTONIC);
#pragma omp parallel num_threads(thread_count)
#pragma omp single
    for (size_t k = 0; k < n; k++) {
        char *pivot = a[k * n + k];
#pragma omp task depend(inout : pivot[0]) firstprivate(pivot) priority(1)
        potrf(pivot);
        for (size_t i = k + 1; i < n; i++) {
            char *tile = a[i * n + k];
#pragma omp task depend(in : pivot[0]) depend(inout : tile[0]) firstprivate(pivot, tile) priority(1)
            trsm(pivot, tile);
        }
        for (size_t i = k + 1; i < n; i++)
            for (size_t j = k + 1; j <= i; j++) {
                const char *x = a[i * n + k], *y = a[j * n + k];
                char *z = a[i * n + j];
                if (i == j) {
#pragma omp task depend(in : x[0]) depend(inout : z[0]) firstprivate(x, z)
                    gemm(x, x, z);
                } else {
#pragma omp task depend(in : x[0], y[0]) depend(inout : z[0]) firstprivate(x, y, z)
                    gemm(x, y, z);
                }
            }
    }
    return rested(ns_of(CLOCK_MONOTONIC) - began);
}
