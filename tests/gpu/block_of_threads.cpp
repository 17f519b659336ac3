// views.cu compiled for a CPU: a block's threads are threads of the system, its barrier is theirs, and blocks come in turn.
#include <math.h>
#include <pthread.h>
#include <stddef.h>

#define __global__
#define __shared__ static
struct place {
    unsigned x;
};
static thread_local place threadIdx, blockIdx, blockDim;
static pthread_barrier_t barrier;
static void __syncthreads() { pthread_barrier_wait(&barrier); }

#include "views.cu"

extern "C" void begin(int threads) { pthread_barrier_init(&barrier, nullptr, threads); }

// Called by each thread before a block. What is shared in a block must not be written before all have left the last one.
extern "C" void enter(int block, int thread, int threads) {
    threadIdx.x = thread;
    blockIdx.x = block;
    blockDim.x = threads;
    __syncthreads();
}

#ifdef RACES // every step at once, on 4 threads, under ThreadSanitizer
#include <stdlib.h>
enum { N = 3, CHANNELS = 3, SIDE = 13, SOURCE = 20, THREADS = 4 };
static float draws[12][N * CHANNELS * SIDE * SIDE], statistics[2][CHANNELS] = {{0, 0, 0}, {1, 1, 1}};
static float made[N * CHANNELS * SIDE * SIDE], spare[N * CHANNELS * SIDE * SIDE];
static unsigned char images[N * CHANNELS * SOURCE * SOURCE];

static void *one_thread(void *number) {
    for (int source = SIDE; source <= SOURCE; source += SOURCE - SIDE)
        for (int block = 0; block < N; block++) {
            enter(block, (int)(size_t)number, THREADS);
            make_views(images, statistics[0], statistics[1], made, spare, draws[0], draws[1], draws[2], draws[3], draws[4],
                       draws[5], draws[6], draws[7], draws[8], draws[9], draws[10], draws[11], 255, 1 + 5 * (2 + 5 * (3 + 5 * 4)),
                       N, CHANNELS, SIDE, source, 0.2, 0.3, 1, 0.5, 0.1, 0.1, 1, 0.4, 0.4, 0.4, 0.1, 0.5, 1, 1, 0.1);
        }
    return nullptr;
}

int main() {
    pthread_t threads[THREADS];
    for (auto &step : draws)
        for (float &number : step) number = rand() / (RAND_MAX + 1.0f);
    for (unsigned char &pixel : images) pixel = rand();
    begin(THREADS);
    for (size_t k = 0; k < THREADS; k++) pthread_create(&threads[k], nullptr, one_thread, (void *)k);
    for (pthread_t thread : threads) pthread_join(thread, nullptr);
    return 0;
}
#endif
