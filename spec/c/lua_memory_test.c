/* Memory that runs out in the binding: at each allocation of Lua's, once or from one on for good, and at each of ours. A
 * Lua memory error or nil, err; nothing of ours stays, and the same state works afterwards. */
#include "io_peer.h"

#if defined(__GLIBC__)

#include "../../src/lua_compat.h"
#include "scarce.h"

int luaopen_eventbus_core (lua_State *L);

static atomic_bool inside;
static unsigned port;

/* Lua's memory, which is not counted with ours. */
static struct {
  long asked, fails_at, failed;
  bool lasts, starves;
} lua_memory;

static void *lua_memory_ask (void *unused, void *p, size_t old, size_t n) {
  (void)unused;
  if (n == 0) {
    SCARCE_REAL(free)(p);
    return NULL;
  }
  bool grows = p == NULL || n > old;
  if (lua_memory.starves && grows) {
    long at = ++lua_memory.asked;
    if (at == lua_memory.fails_at || (at > lua_memory.fails_at && lua_memory.lasts && lua_memory.fails_at > 0)) {
      lua_memory.failed++;
      return NULL;
    }
  }
  return SCARCE_REAL(realloc)(p, n);
}

/* 'want' ends a script that was told of memory, and of nothing else. */
static const char prelude[] =
    "local core, port = ...\n"
    "local function want(value, err)\n"
    "  if value ~= nil then return value end\n"
    "  if type(err) == 'table' and err.code == 'no_memory' then error(core.json.null, 0) end\n"
    "  error('not for want of memory: ' .. tostring(err), 0)\n"
    "end\n";

static const char values[] =
    "local json, envelope = core.json, core.envelope\n"
    "local text = want(json.encode({ list = { 1, 2.5, 'x' }, text = ('\\n'):rep(300), deep = { a = { b = json.array() } } },\n"
    "  { sort_keys = true }))\n"
    "assert(#want(json.decode(text)).text == 300)\n"
    "want(json.decode('{\"escapes\":\"\\\\u00e9\\\\n' .. ('x'):rep(400) .. '\",\"n\":1.' .. ('123456789'):rep(30) .. '}'))\n"
    "local nothing, err = json.decode('[1,')\n"
    "assert(nothing == nil and (err.code == 'malformed' or err.code == 'no_memory') and tostring(err))\n"
    "local event = envelope.new { type = 'order.created', tenant_id = 't', data = { id = 1, items = { 1, 2, 3 } },\n"
    "  metadata = { a = 'b' } }\n"
    "local bytes = want(envelope.encode(event))\n"
    "assert(want(envelope.decode(bytes)).type == 'order.created')\n"
    "local codec = { encode = function() return '[1]' end, decode = function(s) return { s } end }\n"
    "assert(want(envelope.decode(want(envelope.encode(event, { codec = codec })), { codec = codec })).data[1] == '[1]')\n"
    "assert(want(core.url('amqp://u:p@one,two:1/%2f?heartbeat=5')).user == 'u')\n"
    "assert(core.error('timeout', 'late', { more = 1 }).code == 'timeout')\n";

/* A bus that finds no broker: all is answered, by its deadline. */
static const char life[] =
    "local bus = want(core.open { url = 'amqp://127.0.0.1:' .. port, server_name = 'name', connection_timeout = 0.2,\n"
    "  reconnect_delay = 0.005, reconnect_max = 0.005, connection_name = 'test' })\n"
    "local soon, owed = 0.002, 0\n"
    "local function posted(...) want(...) owed = owed + 1 end\n"
    "local event = { id = 'e', type = 'order.created', timestamp = '2024-01-15T10:30:00Z', data = { 1 }, tenant_id = 't' }\n"
    "posted(bus:publish('x', 'k', ('b'):rep(2000), { headers = { a = ('h'):rep(600), list = { 1, 2 }, t = { x = 1 } },\n"
    "  type = 't', correlation_id = 'c', expiration = 1000, mandatory = true }, soon, true))\n"
    "posted(bus:publish_event('x', 'k', event, { headers = { a = 1 } }, soon, nil, true))\n"
    "posted(bus:publish_fields('x', 'k', nil, soon, nil, true, 'order.created', { n = 1 }, 'src', 'ten', 'cor', { m = 1 }))\n"
    "local send, post = core.sender(bus, {}, 'src', 'ten', nil, { m = 1 }, soon)\n"
    "local function usual(ticket) if ticket then owed = owed + 1 else error(core.json.null, 0) end return ticket end\n"
    "local ticket = usual(send('x', 'order.created', { n = 1 }, { correlation_id = 'cor' }))\n"
    "usual(post('x', 'order.created', { n = 1 }, { tenant_id = 'u', routing_key = 'k' }))\n"
    "assert(#ticket.id == 40 and tostring(ticket))\n"
    "posted(bus:rpc('queue_declare', { queue = 'q', arguments = { a = ('v'):rep(600), l = { 1, 2 } } }, soon))\n"
    "posted(bus:subscribe({ queue = 'q', prefetch = 5, priority = 3, arguments = { a = { b = 1 } } }, soon))\n"
    "local stop = core.now() + 30\n"
    "while owed > 0 and core.now() < stop do\n"
    "  bus:wait(0.01)\n"
    "  local kind, id, ok, err = bus:next()\n"
    "  while kind do\n"
    "    if kind == core.ANSWER or kind == core.FAILED then owed = owed - 1 end\n"
    "    kind, id, ok, err = bus:next()\n"
    "  end\n"
    "end\n"
    "assert(owed == 0, 'not answered')\n"
    "assert(bus:stats().under_way == 0 and tostring(bus))\n"
    "bus:close(1)\n";

static const char *script;

/* Lua 5.4's own library never mends the metatable of its buffers that it could not finish. */
static void make_buffer (lua_State *L) {
  luaL_Buffer b;
  luaL_buffinitsize(L, &b, 100000);
  luaL_pushresultsize(&b, 0);
  lua_settop(L, 0);
}

/* Its error, as a copy; "" for none, or one for want of memory. */
static char said[300];

static bool call (lua_State *L, int args) {
  int status = lua_pcall(L, args, 0, 0);
  said[0] = '\0';
  if (status == LUA_OK || status == LUA_ERRMEM || lua_islightuserdata(L, -1)) return status == LUA_OK;
  snprintf(said, sizeof said, "%s", lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "an error that is no string");
  return false;
}

/* The core as the only value on the stack. */
static int open_core (lua_State *L) {
  luaL_requiref(L, "eventbus.core", luaopen_eventbus_core, 0);
  lua_setfield(L, LUA_REGISTRYINDEX, "test.core");
  return 0;
}

static bool load (lua_State *L) {
  lua_settop(L, 0);
  lua_pushfstring(L, "%s%s", prelude, script);
  if (luaL_loadstring(L, lua_tostring(L, 1)) != LUA_OK) printf("%s\n", lua_tostring(L, -1));
  lua_getfield(L, LUA_REGISTRYINDEX, "test.core");
  lua_pushinteger(L, (lua_Integer)port);
  return lua_isfunction(L, 2);
}

/* Opens the core and runs the script, starved where 'opens' and 'ours' say; then the script again, with memory. */
static bool state_run (bool opens, bool ours) {
  lua_State *L = lua_newstate(lua_memory_ask, NULL);
  if (L == NULL) return false;
  lua_memory.asked = lua_memory.failed = 0;
  luaL_openlibs(L);
  make_buffer(L);
  lua_pushcfunction(L, open_core);
  lua_memory.starves = opens;
  call(L, 0);
  lua_memory.starves = false;
  bool good = said[0] == '\0';
  lua_settop(L, 0);
  lua_pushcfunction(L, open_core);
  good = good && call(L, 0) && load(L);
  if (good) {
    lua_memory.starves = !opens && !ours;
    inside = ours;
    call(L, 2);
    inside = lua_memory.starves = false;
    good = said[0] == '\0';
    if (!good) printf("without memory: %s\n", said);
  }
  bool again = good && load(L) && call(L, 2);
  if (good && !again) printf("with memory again: %s\n", said);
  lua_close(L);
  return again;
}

static bool opening_run (void) { return state_run(true, false); }
static bool script_run (void) { return state_run(false, false); }
static bool ours_run (void) { return state_run(false, true); }

/* As scarce_every, of Lua's allocations. */
static long each_of_lua (bool (*run)(void), const char *what, bool lasts) {
  script = what;
  lua_memory.lasts = lasts;
  lua_memory.fails_at = 0;
  if (!run()) return -1;
  for (long n = 1;; n++) {
    lua_memory.fails_at = n;
    if (!scarce_survives(run, 0)) return n;
    if (lua_memory.failed == 0) return 0;
  }
}

static long each_of_ours (const char *what, long (*each)(bool (*run)(void))) {
  script = what;
  lua_memory.fails_at = 0;
  return each(ours_run);
}

TEST(the_core_is_opened_again_when_lua_had_no_memory_for_it) {
  CHECK_INT(each_of_lua(opening_run, values, false), 0);
  CHECK_INT(each_of_lua(opening_run, values, true), 0);
}

TEST(values_without_lua_memory_are_a_memory_error) {
  CHECK_INT(each_of_lua(script_run, values, false), 0);
  CHECK_INT(each_of_lua(script_run, values, true), 0);
}

TEST(values_without_our_memory_are_nil_and_an_error) {
  CHECK_INT(each_of_ours(values, scarce_every), 0);
  CHECK_INT(each_of_ours(values, scarce_for_good), 0);
}

TEST(a_bus_without_lua_memory_is_a_memory_error) {
  CHECK_INT(each_of_lua(script_run, life, false), 0);
  CHECK_INT(each_of_lua(script_run, life, true), 0);
}

TEST(a_bus_without_our_memory_is_nil_and_an_error) {
  CHECK_INT(each_of_ours(life, scarce_every), 0);
}

#define OPENING(publish) \
  "bus = want(core.open { url = 'amqp://127.0.0.1:' .. port })\n" \
  "send, post = core.sender(bus, {}, 'source', nil, nil, nil, 60)\n" \
  "function publish() " publish " end\n" \
  "function under_way() return bus:stats().under_way end\n" \
  "publish()\n"

static const char by_hand[] = OPENING("return bus:publish_event('x', 'k', { type = 't', data = 1 }, nil, 60, nil, true)");
static const char with_a_ticket[] = OPENING("assert(send('x', 't', 1, { tenant_id = 'u' }))");
static const char with_an_answer[] = OPENING("assert(post('x', 't', 1, { tenant_id = 'u' }))");

static lua_Integer under_way (lua_State *L) {
  lua_getglobal(L, "under_way");
  if (lua_pcall(L, 0, 1, 0) != LUA_OK) return -1;
  lua_Integer n = lua_tointeger(L, -1);
  lua_pop(L, 1);
  return n;
}

/* Whoever was told of an error may publish it again. */
static void check_none_is_posted (const char *opening) {
  lua_State *L = lua_newstate(lua_memory_ask, NULL);
  CHECK(L != NULL);
  luaL_openlibs(L);
  make_buffer(L);
  lua_pushcfunction(L, open_core);
  CHECK(call(L, 0));
  script = opening;
  CHECK(load(L) && call(L, 2));
  lua_Integer published = under_way(L);
  CHECK_INT(published, 1);
  int raised = 0;
  lua_memory.lasts = true;
  for (lua_memory.fails_at = 1; lua_memory.fails_at < 1000; lua_memory.fails_at++) {
    lua_getglobal(L, "publish");
    lua_memory.asked = lua_memory.failed = 0;
    lua_memory.starves = true;
    bool ok = call(L, 0);
    lua_memory.starves = false;
    lua_settop(L, 0);
    if (ok) published++;
    else raised++;
    CHECK_INT(under_way(L), published);
    if (lua_memory.failed == 0) break;
  }
  CHECK(raised > 2);
  luaL_loadstring(L, "bus:close(0)");
  CHECK(call(L, 0));
  lua_close(L);
}

TEST(an_event_whose_publish_raised_is_not_published) {
  check_none_is_posted(by_hand);
}

TEST(nor_is_one_that_went_the_usual_way) {
  check_none_is_posted(with_a_ticket);
  check_none_is_posted(with_an_answer);
}

static void *await_all (void *barrier) {
  pthread_barrier_wait(barrier);
  return NULL;
}

/* The C library keeps the stacks of threads that have ended, each with a block: as many as ever run at once here. */
static void keep_stacks (void) {
  enum { STACKS = 8, STACK_SIZE = 1024 * 1024 };
  pthread_t threads[STACKS];
  pthread_barrier_t all;
  pthread_attr_t attr;
  pthread_barrier_init(&all, NULL, STACKS);
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK_SIZE);
  for (int i = 0; i < STACKS; i++)
    if (pthread_create(&threads[i], &attr, await_all, &all) != 0) abort();
  for (int i = 0; i < STACKS; i++) pthread_join(threads[i], NULL);
  pthread_attr_destroy(&attr);
  pthread_barrier_destroy(&all);
}

int main (void) {
  keep_stacks();
  signal(SIGPIPE, SIG_IGN);
  scarce_gate = &inside;
  port = dead_port();
  RUN(the_core_is_opened_again_when_lua_had_no_memory_for_it);
  RUN(values_without_lua_memory_are_a_memory_error);
  RUN(values_without_our_memory_are_nil_and_an_error);
  RUN(a_bus_without_lua_memory_is_a_memory_error);
  RUN(a_bus_without_our_memory_is_nil_and_an_error);
  RUN(an_event_whose_publish_raised_is_not_published);
  RUN(nor_is_one_that_went_the_usual_way);
  return check_done();
}

#else

int main (void) {
  check_bad = 0;
  return check_done();
}

#endif
