/* entry: what libFuzzer calls; FUZZ_TARGET is one of fuzz.h. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput (const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput (const uint8_t *p, size_t n) { return FUZZ_TARGET(p, n); }
