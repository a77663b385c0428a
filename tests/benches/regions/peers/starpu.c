/* The loops in StarPU's tasks, on cores alone: a tile is a variable that lies where the caller has it. */

#include <starpu.h>
#include <stdlib.h>

#include "peer.h"

static body_one one;
static body_two two;
static body_three three;

static void *at(void *buffers[], int index) {
    return (void *)STARPU_VARIABLE_GET_PTR(buffers[index]);
}

static void run_one(void *buffers[], void *argument) {
    (void)argument;
    one(at(buffers, 0));
}

static void run_two(void *buffers[], void *argument) {
    (void)argument;
    two(at(buffers, 0), at(buffers, 1));
}

static void run_square(void *buffers[], void *argument) {
    (void)argument;
    three(at(buffers, 0), at(buffers, 0), at(buffers, 1));
}

static void run_three(void *buffers[], void *argument) {
    (void)argument;
    three(at(buffers, 0), at(buffers, 1), at(buffers, 2));
}

static struct starpu_codelet of_one = {.cpu_funcs = {run_one}, .nbuffers = 1, .modes = {STARPU_RW}};
static struct starpu_codelet of_two = {.cpu_funcs = {run_two}, .nbuffers = 2, .modes = {STARPU_R, STARPU_RW}};
static struct starpu_codelet of_square = {.cpu_funcs = {run_square}, .nbuffers = 2, .modes = {STARPU_R, STARPU_RW}};
static struct starpu_codelet of_three = {.cpu_funcs = {run_three}, .nbuffers = 3, .modes = {STARPU_R, STARPU_R, STARPU_RW}};

int peer_begin(unsigned threads) {
    struct starpu_conf conf;
    starpu_conf_init(&conf);
    conf.ncpus = (int)threads;
    conf.ncuda = 0;
    conf.nopencl = 0;
    if (starpu_init(&conf) != 0)
        return 0;
    /* Workers without a task look for one all the time, and take the cores of whoever is measured next. */
    starpu_pause();
    return 1;
}

static starpu_data_handle_t *registered(size_t count, void **tiles) {
    starpu_data_handle_t *handles = malloc(count * sizeof *handles);
    for (size_t index = 0; index < count; index++)
        if (tiles[index])
            starpu_variable_data_register(&handles[index], STARPU_MAIN_RAM, (uintptr_t)tiles[index], 1);
        else
            handles[index] = NULL;
    return handles;
}

static void released(size_t count, starpu_data_handle_t *handles) {
    for (size_t index = 0; index < count; index++)
        if (handles[index])
            starpu_data_unregister(handles[index]);
    free(handles);
}

static double products(size_t n, void **a, void **b, void **c, body_three gemm, int is_planning) {
    starpu_resume();
    starpu_data_handle_t *x = registered(n * n, a), *y = registered(n * n, b), *z = registered(n * n, c);
    three = gemm;
    double wall = 0, own = 0;
    /* Where planning is measured, the first time fills the caches. */
    for (int round = 0; round <= is_planning; round++) {
        wall = ns_of(CLOCK_MONOTONIC);
        own = ns_of(CLOCK_THREAD_CPUTIME_ID);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                for (size_t k = 0; k < n; k++)
                    starpu_task_insert(&of_three, STARPU_R, x[i * n + k], STARPU_R, y[k * n + j], STARPU_RW, z[i * n + j], 0);
        own = ns_of(CLOCK_THREAD_CPUTIME_ID) - own;
        starpu_task_wait_for_all();
        wall = ns_of(CLOCK_MONOTONIC) - wall;
    }
    released(n * n, x);
    released(n * n, y);
    released(n * n, z);
    starpu_pause();
    return is_planning ? own : wall;
}

double peer_matmul(size_t n, void **a, void **b, void **c, body_three gemm) {
    return products(n, a, b, c, gemm, 0);
}

double peer_planning(size_t n, void **a, void **b, void **c, body_three gemm) {
    return products(n, a, b, c, gemm, 1);
}

double peer_cholesky(size_t n, void **a, body_one potrf, body_two trsm, body_three gemm) {
    starpu_resume();
    starpu_data_handle_t *t = registered(n * n, a);
    one = potrf;
    two = trsm;
    three = gemm;
    double wall = ns_of(CLOCK_MONOTONIC);
    for (size_t k = 0; k < n; k++) {
        starpu_task_insert(&of_one, STARPU_RW, t[k * n + k], STARPU_PRIORITY, 1, 0);
        for (size_t i = k + 1; i < n; i++)
            starpu_task_insert(&of_two, STARPU_R, t[k * n + k], STARPU_RW, t[i * n + k], STARPU_PRIORITY, 1, 0);
        for (size_t i = k + 1; i < n; i++)
            for (size_t j = k + 1; j <= i; j++)
                if (i == j)
                    starpu_task_insert(&of_square, STARPU_R, t[i * n + k], STARPU_RW, t[i * n + j], 0);
                else
                    starpu_task_insert(&of_three, STARPU_R, t[i * n + k], STARPU_R, t[j * n + k], STARPU_RW, t[i * n + j], 0);
    }
    starpu_task_wait_for_all();
    wall = ns_of(CLOCK_MONOTONIC) - wall;
    released(n * n, t);
    starpu_pause();
    return wall;
}
