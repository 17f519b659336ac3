/* Several numbers of single precision side by side, as many as the processor works on at once. */
#include <stddef.h>
#include <stdint.h>

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define AT(p) (*(vec *)(p))
#define GIVEN(p) (*(const vec *)(p))
#define INLINE static inline __attribute__((always_inline))

INLINE vec every(float value) { return value - (vec){0}; }
INLINE vec choose(mask m, vec yes, vec no) { return (vec)(((mask)yes & m) | ((mask)no & ~m)); }
