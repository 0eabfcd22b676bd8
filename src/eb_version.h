/* eb_version: the one place that says which version this is.
**
** The engine tells it to brokers, the binding to Lua, the Makefile to packages.
*/
#ifndef EB_VERSION_H
#define EB_VERSION_H

#define EB_VERSION "1.0.0"

#endif
