/* lua_url: eventbus.core.url: an AMQP URL taken apart, for those who need more
** of it than a connection: the management API has the same host and user.
** Thread: lua.
*/
#include "eb_url.h"
#include "lua_error.h"
#include "lua_modules.h"

#define LUA_URL_TYPE "eventbus.url"

/* The URL lives in a userdata: a push that raises must not leak it. */
static int url_gc (lua_State *L) {
  eb_url_fini((eb_url *)lua_touserdata(L, 1));
  return 0;
}

static void set_string (lua_State *L, const char *key, const char *value) {
  if (value == NULL) return;
  lua_pushstring(L, value);
  lua_setfield(L, -2, key);
}

static void set_hosts (lua_State *L, const eb_url *url) {
  lua_createtable(L, (int)url->host_count, 0);
  for (size_t i = 0; i < url->host_count; i++) {
    lua_createtable(L, 0, 2);
    set_string(L, "name", url->hosts[i].name);
    lua_pushinteger(L, (lua_Integer)url->hosts[i].port);
    lua_setfield(L, -2, "port");
    lua_rawseti(L, -2, (int)i + 1);
  }
  lua_setfield(L, -2, "hosts");
}

/* url(text) -> { tls, hosts = { { name, port } }, user, password, vhost,
** auth = "plain"|"external", display, cacertfile, certfile, keyfile, verify,
** server_name } | nil, err
** 'display' is the URL for people: without password and query. */
int lua_url_parse (lua_State *L) {
  const char *text = luaL_checkstring(L, 1);
  char display[512];
  eb_error err;
  eb_url *url = (eb_url *)lua_newuserdata(L, sizeof *url);
  *url = (eb_url){0};
  if (luaL_newmetatable(L, LUA_URL_TYPE)) {
    lua_pushcfunction(L, url_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  if (!eb_url_parse(text, url, &err)) {
    *url = (eb_url){0};
    lua_pushnil(L);
    lua_error_push(L, &err);
    return 2;
  }
  eb_url_display(url, display, sizeof display);
  lua_createtable(L, 0, 12);
  lua_pushboolean(L, url->tls);
  lua_setfield(L, -2, "tls");
  set_hosts(L, url);
  set_string(L, "auth", url->auth == EB_AUTH_EXTERNAL ? "external" : "plain");
  set_string(L, "user", url->user);
  set_string(L, "password", url->password);
  set_string(L, "vhost", url->vhost);
  set_string(L, "display", display);
  set_string(L, "cacertfile", url->cacertfile);
  set_string(L, "certfile", url->certfile);
  set_string(L, "keyfile", url->keyfile);
  set_string(L, "server_name", url->server_name);
  if (url->verify != EB_URL_UNSET) {
    lua_pushboolean(L, url->verify == 1);
    lua_setfield(L, -2, "verify");
  }
  return 1;
}
