/* eb_decimal: doubles to decimal digits and back, exactly, whatever the locale.
**
** Out: the shortest digits that read back as the same double; of those the
** nearest to it (R. Giulietti, "The Schubfach way to render doubles", 2020). In:
** the nearest double, ties to even (D. Lemire, "Number parsing at a gigabyte per
** second", 2021; N. Mushtak and D. Lemire, "Fast number parsing without
** fallback", 2022). Thread: any; pure.
*/
#ifndef EB_DECIMAL_H
#define EB_DECIMAL_H

#include <stdbool.h>
#include <stdint.h>

typedef struct eb_decimal {
  uint64_t digits;  /* at most 17 of them, the last is not 0 */
  int exponent;     /* the value is digits * 10^exponent */
} eb_decimal;

/* v is finite and greater than 0. */
eb_decimal eb_decimal_of (double v);

/* The double nearest to digits * 10^exponent; infinity beyond its range. */
double eb_decimal_value (uint64_t digits, int64_t exponent);

#endif
