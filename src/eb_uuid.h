/* eb_uuid: UUID version 7 as text: RFC 9562, section 5.7.
**
** Ordered by time: those of one thread are strictly ascending, also within a
** millisecond. Unique across threads, processes and forks: random bits come
** from the system. Thread: any.
*/
#ifndef EB_UUID_H
#define EB_UUID_H

#include <stdbool.h>
#include <stdint.h>

enum { EB_UUID_TEXT = 36 };

/* False: the system has no random bytes to give. No '\0' is written. */
bool eb_uuid_v7 (int64_t wall_ms, char to[EB_UUID_TEXT]);

#endif
