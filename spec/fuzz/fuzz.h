/* fuzz: the targets. Each takes any bytes, and stops the process (abort, or a sanitizer) when a promise is broken.
 *
 * Built with libFuzzer by `make fuzz`, one program each; spec/c/fuzz_test.c runs all of them over what is kept in
 * corpus/ and regressions/, in any build.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int fuzz_handshake (const uint8_t *p, size_t n);
int fuzz_session (const uint8_t *p, size_t n);
int fuzz_url (const uint8_t *p, size_t n);
int fuzz_json (const uint8_t *p, size_t n);
int fuzz_json_write (const uint8_t *p, size_t n);
int fuzz_time (const uint8_t *p, size_t n);
int fuzz_headers (const uint8_t *p, size_t n);

#define FUZZ_WANT(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      abort(); \
    } \
  } while (0)

#endif
