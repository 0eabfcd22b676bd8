# eventbus. `make help` lists the targets. Everything that is made lands in build/.

SHELL = /bin/sh
.DEFAULT_GOAL = build
.DELETE_ON_ERROR:
.SUFFIXES:

# The Lua to build for: 5.1, 5.2, 5.3, 5.4 or jit. LuaRocks names headers instead; they tell which Lua it is.
ifeq ($(origin LUA_INCDIR),undefined)
LUA = 5.4
else
LUA := $(shell printf '\043include <lua.h>\nversion=LUA_VERSION_NUM\n' | $(CC) -I'$(LUA_INCDIR)' -E - \
	| sed -n 's/^version=50\([1-9]\)$$/5.\1/p')
endif
ifeq ($(filter 5.1 5.2 5.3 5.4 jit,$(LUA)),)
$(error LUA=$(LUA): expected 5.1, 5.2, 5.3, 5.4 or jit)
endif

LUA_NAME := $(if $(filter jit,$(LUA)),luajit,lua$(LUA))
LUA_ABI := $(if $(filter jit,$(LUA)),5.1,$(LUA))
digits := $(subst .,,$(LUA))

VERSION := $(shell sed -n 's/^.define EB_VERSION "\(.*\)"$$/\1/p' src/eb_version.h)

# release, or one of asan, tsan, werror, fuzz: each has its own objects.
FLAVOUR = release
BUILD = build
ENGINE_DIR = $(BUILD)/engine/$(FLAVOUR)
BINDING_DIR = $(BUILD)/$(LUA_NAME)/$(FLAVOUR)
# What the module is made of: in a release all its files are optimised as one, which the tests in C have no time for.
WHOLE = $(FLAVOUR:release=whole)
# Modules that only an interpreter with the sanitizer's runtime can load are apart.
MODULE_DIR = $(BUILD)/$(LUA_NAME)$(if $(filter asan tsan,$(FLAVOUR)),/$(FLAVOUR))
MODULE = $(MODULE_DIR)/eventbus/core.so
HOST = $(MODULE_DIR)/lua
ARCHIVE = $(BUILD)/$(LUA_NAME)/libeventbus.a
CTEST_DIR = $(BUILD)/spec/$(FLAVOUR)
LUA_CTEST_DIR = $(BUILD)/$(LUA_NAME)/spec/$(FLAVOUR)
SIM_DIR = $(BUILD)/sim/$(FLAVOUR)
SIMULATE = $(SIM_DIR)/simulate
# Those in C; and those in Lua, with the core linked in.
FUZZ_ENGINE = handshake session url json json_write time headers
FUZZ_LUA := $(patsubst spec/fuzz/%.lua,%,$(sort $(wildcard spec/fuzz/*.lua)))
FUZZ_TARGETS = $(FUZZ_ENGINE) $(FUZZ_LUA)

ENGINE_SOURCES := $(sort $(wildcard src/eb_*.c))
BINDING_SOURCES := $(sort $(wildcard src/lua_*.c))
CTEST_SOURCES := $(sort $(filter-out spec/c/lua_%,$(wildcard spec/c/*_test.c)))
# Of the binding, whose Lua lets a program give it memory: LuaJIT does not.
LUA_CTEST_SOURCES := $(if $(filter 5.4,$(LUA)),$(sort $(wildcard spec/c/lua_*_test.c)))
SIM_SOURCES := $(sort $(wildcard spec/sim/*.c))
PEERS = $(BUILD)/bench/peers
# What a target has made before its own part: as many at once as there are processors, unless make was told how many.
SUB = --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(or $(shell getconf _NPROCESSORS_ONLN),2))
LUA_SOURCES := $(shell find lua -name '*.lua' 2>/dev/null | sort)

ENGINE_OBJECTS := $(ENGINE_SOURCES:src/%.c=$(ENGINE_DIR)/%.o)
BINDING_OBJECTS := $(BINDING_SOURCES:src/%.c=$(BINDING_DIR)/%.o)
MODULE_OBJECTS := $(ENGINE_SOURCES:src/%.c=$(BUILD)/engine/$(WHOLE)/%.o) \
	$(BINDING_SOURCES:src/%.c=$(BUILD)/$(LUA_NAME)/$(WHOLE)/%.o)
CTESTS := $(CTEST_SOURCES:spec/c/%.c=$(CTEST_DIR)/%) $(LUA_CTEST_SOURCES:spec/c/%.c=$(LUA_CTEST_DIR)/%)

# What a packager or user may replace.
CC ?= cc
CFLAGS ?= -O2 -g
LDFLAGS ?=
PREFIX = /usr/local
DESTDIR =
LUADIR = $(PREFIX)/share/lua/$(LUA_ABI)
LIBDIR = $(PREFIX)/lib/lua/$(LUA_ABI)
BINDIR = $(PREFIX)/bin
DATADIR = $(PREFIX)/share
# The interpreter of the installed command.
INTERPRETER = $(call once,INTERPRETER,$(or $(shell tools/env $(LUA) -- sh -c 'printf %s "$$EVENTBUS_LUA"' 2>/dev/null), \
	/usr/bin/env $(LUA_NAME)))
# Not empty when another program moves the files after `make install`, as LuaRocks does.
RELOCATED =
INSTALL = DESTDIR='$(DESTDIR)' LUADIR='$(LUADIR)' LIBDIR='$(LIBDIR)' BINDIR='$(BINDIR)' DATADIR='$(DATADIR)' \
	MODULE='$(MODULE)' INTERPRETER='$(INTERPRETER)' RELOCATED='$(RELOCATED)' tools/install
PKG_CONFIG ?= pkg-config
LD ?= ld
OBJCOPY ?= objcopy

# Asked for on first use, not while reading this file: `make test` on a new machine installs pkg-config before that.
once = $(eval $(1) := $(2))$($(1))
pkg_flags = $(shell $(PKG_CONFIG) $(1) $(2) 2>/dev/null || echo $(3))
LUA_PC = $(call once,LUA_PC,$(shell for name in $(LUA_NAME) lua-$(LUA) lua$(digits); do \
	$(PKG_CONFIG) --exists $$name 2>/dev/null && { echo $$name; break; }; done))
ifeq ($(origin LUA_INCDIR),undefined)
LUA_CFLAGS = $(call once,LUA_CFLAGS,$(or $(if $(LUA_PC),$(call pkg_flags,--cflags,$(LUA_PC))),-I/usr/include/$(LUA_NAME)))
else
LUA_CFLAGS = -I'$(LUA_INCDIR)'
endif
LUA_LIBS = $(call once,LUA_LIBS,$(or $(if $(LUA_PC),$(call pkg_flags,--libs,$(LUA_PC))),-l$(LUA_NAME)) -lm -ldl)
LIB_CFLAGS = $(call once,LIB_CFLAGS,$(foreach d,$(RABBITMQ_INCDIR) $(OPENSSL_INCDIR),-I$(d)) \
	$(call pkg_flags,--cflags,librabbitmq,) $(call pkg_flags,--cflags,openssl,))
LIB_LIBS = $(call once,LIB_LIBS,$(foreach d,$(RABBITMQ_LIBDIR) $(OPENSSL_LIBDIR),-L$(d)) \
	$(call pkg_flags,--libs,librabbitmq,-lrabbitmq) $(call pkg_flags,--libs,openssl,-lssl -lcrypto) -pthread)

WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion
WERROR =
# Against what a mistake in C could be used for, as far as the compiler knows it; HARDENING= builds without.
takes = $(shell printf 'int x;' | $(CC) -Werror $(1) -x c -c -o /dev/null - 2>/dev/null && echo $(1))
HARDENING = $(call once,HARDENING,$(foreach f,-fstack-protector-strong -fstack-clash-protection -fcf-protection,$(call takes,$f)) \
	$(if $(filter -O1 -O2 -O3 -Os -Og,$(CFLAGS)),-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2))
# All files of the module as one, and calls of Lua's and libc's functions without a stub in between, as far as compiler and
# linker know it: docs/performance.md says what it saves. In a new build folder LTO= builds without, and links faster.
LTO = $(call once,LTO,$(call links,-flto=auto) $(call takes,-fno-plt))
links = $(shell t=$$(mktemp) && printf 'int x;' | $(CC) -Werror $(1) -fPIC -shared -x c -o $$t - 2>/dev/null && echo $(1); rm -f $$t)
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -pthread $(WARNINGS) $(WERROR) \
	$(or $(FLAVOUR_FLAGS),$(HARDENING)) $(CFLAGS)

ifeq ($(FLAVOUR),asan)
FLAVOUR_FLAGS = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -DEB_ASAN
CFLAGS = -O1 -g
else ifeq ($(FLAVOUR),tsan)
FLAVOUR_FLAGS = -fsanitize=thread -fno-omit-frame-pointer -DEB_TSAN
CFLAGS = -O1 -g
else ifeq ($(FLAVOUR),werror)
WERROR = -Werror
else ifeq ($(FLAVOUR),fuzz)
CC = clang
FLAVOUR_FLAGS = -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -DEB_ASAN
CFLAGS = -O1 -g
WARNINGS =
endif

ifeq ($(shell uname -s),Darwin)
ALL_CFLAGS += -D_DARWIN_C_SOURCE
MODULE_LDFLAGS = -bundle -undefined dynamic_lookup
else
HARD_LDFLAGS = -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack
# nodelete: the thread of a module that a closing Lua state unloads would run into unmapped code.
MODULE_LDFLAGS = -shared -Wl,-z,nodelete $(HARD_LDFLAGS)
endif

# V=1 shows the commands.
say = $(if $(V),,@printf '  %s\n' '$(1) $@' &&)

DEPS = tools/deps --lua $(LUA)
COMMA = ,

## build      the C module and everything else a script needs (LUA=5.1|5.2|5.3|5.4|jit)
.PHONY: build
build: $(MODULE)
	@:

## deps       install what is missing, with apt when it may, else print the line to type
.PHONY: deps
deps:
	@$(DEPS) build demo test

.PHONY: deps-demo deps-lint deps-rock deps-deb deps-nginx deps-hosts
deps-demo:
	@$(DEPS) build demo
deps-lint:
	@$(DEPS) build lint || echo "lint goes on without"

deps-rock:
	@$(DEPS) rock
deps-deb:
	@$(DEPS) deb
deps-nginx:
	@tools/deps --lua jit build nginx
deps-hosts:
	@tools/deps --lua jit build hosts
	@tools/deps --lua 5.3 build

## demo       the whole platform on a private RabbitMQ, in under a minute
.PHONY: demo
demo: deps-demo
	@$(MAKE) $(SUB) build LUA=$(LUA)
	@tools/env $(LUA) -- @lua examples/demo.lua

## openresty  nginx as an HTTP gateway to events, with a page that shows them live, on a private RabbitMQ; Ctrl-C ends it
.PHONY: openresty
openresty: deps-demo deps-nginx
	@$(MAKE) $(SUB) build LUA=jit
	@$(MAKE) $(SUB) build LUA=$(LUA)
	@tools/env $(LUA) -- @lua examples/openresty.lua

## test       C unit tests and busted specs against real brokers; SPEC=path runs one spec, BUSTED=... adds options, JOBS=3
.PHONY: test
test: deps
	@$(MAKE) $(SUB) build spec-modules ctests interop $(PEERS)/c LUA=$(LUA)
	@tools/run-tests --lua $(LUA) $(if $(SPEC),,$(addprefix --c ,$(CTESTS))) --busted \
		$(or $(SPEC),spec --exclude-tags=packages$(COMMA)openresty$(COMMA)hosts$(COMMA)scaling) $(BUSTED)

## test-lua   the specs in which it matters which Lua it is, and no C unit tests; LUA=...
.PHONY: test-lua
OF_LUA = badinput bus cli config consumer core deadletter envelope exit failure fork fuzz http journal json json_cjson \
	json_scratch loops mismatch options outcome pattern platform retry_policy router script settled stop ticket timers tls topology \
	unconfirmed units usual
test-lua:
	@$(MAKE) $(SUB) test LUA=$(LUA) SPEC="$(OF_LUA:%=spec/%_spec.lua)"

## test-all   make test on each Lua in turn, the C unit tests once
.PHONY: test-all
test-all:
	@tools/test-all

## test-openresty  nginx with the Lua module, and the gateway of examples/openresty/
.PHONY: test-openresty
test-openresty: deps deps-nginx
	@$(MAKE) $(SUB) build LUA=jit
	@$(MAKE) $(SUB) build LUA=$(LUA)
	@tools/run-tests --lua $(LUA) --busted $(or $(SPEC),spec/openresty_spec.lua spec/example_openresty_spec.lua) $(BUSTED)

## test-hosts HAProxy (Lua 5.3), Tarantool (LuaJIT) and Prosody (Lua 5.4)
.PHONY: test-hosts
test-hosts: deps deps-hosts
	@for lua in jit 5.3 5.4 $(LUA); do $(MAKE) $(SUB) build LUA=$$lua || exit 1; done
	@tools/run-tests --lua $(LUA) --busted $(or $(SPEC),spec/hosts_spec.lua) $(BUSTED)

## test-scaling  the examples of docs/scaling.md, on three nodes
.PHONY: test-scaling
test-scaling: deps deps-demo
	@$(MAKE) $(SUB) build LUA=$(LUA)
	@tools/run-tests --lua $(LUA) --busted $(or $(SPEC),spec/scaling_spec.lua) $(BUSTED)

## test-packages  the rock, on each Lua, and the Debian packages: built, unpacked and tried
.PHONY: test-packages
test-packages: deps deps-rock deps-deb
	@for lua in 5.1 5.2 5.3 5.4 jit; do tools/deps --lua $$lua build || exit 1; done
	@$(MAKE) $(SUB) build LUA=$(LUA)
	@tools/run-tests --lua $(LUA) --busted spec/rock_spec.lua spec/deb_spec.lua $(BUSTED)

## ctest      the C unit tests only
.PHONY: ctest
ctest: ctests
	@tools/run-tests --flavour $(FLAVOUR) $(addprefix --c ,$(CTESTS))

## asan       the C unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
.PHONY: asan tsan
asan:
	@$(MAKE) $(SUB) FLAVOUR=asan ctest

## tsan       the C unit tests under ThreadSanitizer
tsan:
	@$(MAKE) $(SUB) FLAVOUR=tsan ctest

## test-asan  all specs under AddressSanitizer and UndefinedBehaviorSanitizer; CORE=1: of the core only; SPEC=, BUSTED=
## test-tsan  the same under ThreadSanitizer
.PHONY: test-asan test-tsan
# Not fork, what measures memory, what is said of the release's build and interpreter, and scripts: docs/testing.md says why.
NOT_OF_CORE = fork broker install run_tests
OF_CORE = bus consumer core deadletter envelope exit faults json json_scratch settled stop tls unconfirmed usual
SANITIZED = $(if $(CORE),$(OF_CORE:%=spec/%_spec.lua),$(filter-out $(NOT_OF_CORE:%=spec/%_spec.lua),$(wildcard spec/*_spec.lua))) \
	--exclude-tags=packages$(COMMA)openresty$(COMMA)hosts$(COMMA)scaling$(COMMA)memory$(COMMA)release
test-asan: deps
	@$(MAKE) $(SUB) FLAVOUR=asan build host spec-modules LUA=$(LUA)
	@$(MAKE) $(SUB) interop LUA=$(LUA)
	@tools/run-tests --lua $(LUA) --flavour asan --busted $(or $(SPEC),$(SANITIZED)) $(BUSTED)
test-tsan: deps
	@$(MAKE) $(SUB) FLAVOUR=tsan build host spec-modules LUA=$(LUA)
	@$(MAKE) $(SUB) interop LUA=$(LUA)
	@tools/run-tests --lua $(LUA) --flavour tsan --busted $(or $(SPEC),$(SANITIZED)) $(BUSTED)

## valgrind   spec/valgrind under memcheck: connect, publish, consume, close, over TCP and TLS; and what comes to nothing
.PHONY: valgrind
valgrind: deps
	@$(DEPS) valgrind
	@$(MAKE) $(SUB) build LUA=$(LUA)
	@tools/env $(LUA) -- @lua tools/valgrind

## gc-stress  specs with all garbage collected at calls, returns and allocations of the core, under asan: each 17th; EVERY=1: at each
.PHONY: gc-stress
EVERY = 17
# At each chance only those that give it a thousand; envelope gives 200,000. Left out: specs that collect for themselves, 20,000 times
# with as many tables alive, or just where a publish is in its midst.
OF_GC = $(if $(filter 1,$(EVERY)),core settled tls,envelope json json_cjson json_scratch bus consumer unconfirmed usual loops)
gc-stress: deps
	@$(MAKE) $(SUB) FLAVOUR=asan build host LUA=$(LUA)
	@EVENTBUS_GC_STRESS=$(EVERY) tools/run-tests --lua $(LUA) --flavour asan --busted \
		$(or $(SPEC),$(OF_GC:%=spec/%_spec.lua) --exclude-tags=memory --filter-out=survives.finalizers.that.publish \
		--filter-out=a.finalizer.empties --filter-out=by.a.finalizer.in.its.midst) $(BUSTED)

## simulate   the session against a model of a broker, faults drawn from seeds: SEEDS=100000 FIRST=1 (docs/testing.md)
.PHONY: simulate
SEEDS = 100000
FIRST = 1
simulate: $(SIMULATE)
	@$(SIMULATE) --list spec/sim/regressions.txt --first $(FIRST) --seeds $(SEEDS)

## simulate-mutants each mistake of spec/sim/mutants.lua, built into a copy of the engine, is found by some seed
.PHONY: simulate-mutants
simulate-mutants: $(SIMULATE)
	@tools/env $(LUA) -- @lua tools/simulate-mutants $(BUILD)/sim/mutants 20000 '$(CC)' '$(LIB_CFLAGS) $(ALL_CFLAGS)' \
		'$(LIB_LIBS) -lm' $(SIM_SOURCES:spec/sim/%.c=$(SIM_DIR)/%.o) $(ENGINE_OBJECTS)

## model      every state of the models of spec/model, by spin, and a counterexample for each mistake put into them
.PHONY: model
model:
	@$(DEPS) build model
	@tools/env $(LUA) -- @lua tools/model $(BUILD)/model '$(CC)' '$(ONLY)'

## fuzz       libFuzzer on one of spec/fuzz: TARGET=session|url|lua_json|predicate|... SECONDS=60
.PHONY: fuzz fuzz-all
SECONDS = 60
fuzz:
	@$(DEPS) build fuzz
	@$(MAKE) $(SUB) FLAVOUR=fuzz LUA=$(LUA) $(BUILD)/fuzz/$(or $(TARGET),$(error TARGET= one of: $(FUZZ_TARGETS)))
	@tools/fuzz $(SECONDS) $(TARGET)

## fuzz-all   every target for SECONDS=60, as many at once as there are processors
fuzz-all:
	@$(DEPS) build fuzz
	@$(MAKE) $(SUB) FLAVOUR=fuzz LUA=$(LUA) $(FUZZ_TARGETS:%=$(BUILD)/fuzz/%)
	@tools/fuzz $(SECONDS) $(FUZZ_TARGETS)

## chaos      real brokers, one and a cluster of three, and all that can break: MINUTES=30 SEED=7 NODES=1|3 FAULT= (docs/testing.md)
.PHONY: chaos soak chaos-mutants
chaos: deps-demo
	@$(MAKE) $(SUB) build spec-modules LUA=$(LUA)
	@tools/env $(LUA) -- @lua spec/chaos/main.lua '$(SEED)' '$(MINUTES)' '$(NODES)' '' '$(FAULT)'

## chaos-mutants each mistake of spec/chaos/mutants.lua, put into a copy, is reported by a round on a real broker: half a minute
chaos-mutants: deps-demo
	@$(MAKE) $(SUB) build spec-modules LUA=$(LUA)
	@tools/env $(LUA) -- @lua tools/chaos-mutants $(BUILD)/chaos-mutants

## soak       a steady rate and a fault every 20 s: memory, descriptors and threads stay flat; MINUTES=10 SEED=7
soak: deps-demo
	@$(MAKE) $(SUB) build spec-modules LUA=$(LUA)
	@tools/env $(LUA) -- @lua spec/chaos/soak.lua '$(SEED)' '$(MINUTES)'

## fuzz-lua   the targets in Lua without libFuzzer, on any Lua, drawn from seeds: SECONDS=60 FIRST=1 COUNT=, LUA=
.PHONY: fuzz-lua
fuzz-lua:
	@$(DEPS) build
	@$(MAKE) $(SUB) build LUA=$(LUA)
	@ulimit -v 4194304; tools/env $(LUA) -- @lua tools/fuzz-lua $(SECONDS) $(FIRST) $(COUNT)

## lint       the laws, warnings as errors, Lua syntax and luacheck, links of the docs
.PHONY: lint
lint: deps-lint
	@$(MAKE) $(SUB) FLAVOUR=werror objects LUA=$(LUA)
	@tools/env $(LUA) -- @lua tools/lint

## bench-quick CPU and wake-ups for an event, publishing and consuming, beside a plain C program; EVENTS=20000 ROUNDS=3 WRITE=1
.PHONY: bench-quick
EVENTS = 50000
ROUNDS = 3
bench-quick: EVENTS = 20000
bench-quick: deps
	@$(MAKE) $(SUB) build $(PEERS)/c LUA=$(LUA)
	@tools/env $(LUA) -- @lua bench/quick.lua $(EVENTS) $(ROUNDS) $(if $(WRITE),docs/performance.md)

## profile    where an event's cost goes, by part: instructions, system calls, kernel; WRITE=1: into docs/performance.md
.PHONY: profile
profile:
	@$(DEPS) build demo counters
	@$(MAKE) $(SUB) build $(PEERS)/c LUA=$(LUA)
	@tools/env $(LUA) -- @lua bench/profile.lua $(EVENTS) $(if $(WRITE),docs/performance.md)

## scaling    workers, queue types, a failover, partitions and streams on three nodes; writes its figures into docs/scaling.md
.PHONY: scaling
scaling: EVENTS = 5000
scaling: deps-demo
	@$(MAKE) $(SUB) build LUA=$(LUA)
	@tools/env $(LUA) -- @lua examples/scaling.lua $(EVENTS) docs/scaling.md

## counters   instructions and system calls for an event, against bench/counters.txt: ONLY=calls; RECORD=1 writes what fell, force all
.PHONY: counters
counters:
	@$(DEPS) build demo counters
	@tools/env $(LUA) -- sh -c '"$$EVENTBUS_LUA" bench/counters.lua $(if $(RECORD),--record$(if $(filter force,$(RECORD)),=force)) $(ONLY)'

## bench-hosts each host: wake-up latency, CPU, memory; nginx: requests/s, reloads under load; HOST_EVENTS=200000
.PHONY: bench-hosts
HOST_EVENTS = 200000
bench-hosts: deps deps-nginx deps-hosts
	@for lua in jit 5.3 5.4 $(LUA); do $(MAKE) $(SUB) build LUA=$$lua || exit 1; done
	@tools/env $(LUA) -- @lua bench/hosts.lua $(HOST_EVENTS)

## bench-json JSON beside lua-cjson
.PHONY: bench-json
bench-json: deps
	@$(MAKE) $(SUB) build LUA=$(LUA)
	@tools/env $(LUA) -- @lua bench/json.lua

## bench      all jobs, the library and its peers; writes docs/benchmarks.md: EVENTS=20000 ROUNDS=3 LONG=1 AGAIN=1 (of the last run)
.PHONY: bench deps-bench
LONG =
bench: EVENTS = 20000
deps-bench:
	@tools/deps --lua jit build
	@tools/deps --lua 5.4 build demo test bench
bench: deps-bench
	@$(MAKE) $(SUB) build LUA=jit
	@$(MAKE) $(SUB) build bench-peers LUA=5.4
	@tools/env 5.4 -- @lua bench/all.lua $(if $(AGAIN),again,$(EVENTS) $(ROUNDS) $(if $(LONG),long))

## test-bench each peer's program does its jobs, and publishes the same event
.PHONY: test-bench
test-bench: deps-bench
	@$(MAKE) $(SUB) build LUA=jit
	@$(MAKE) $(SUB) build bench-peers LUA=5.4
	@tools/run-tests --lua 5.4 --busted bench/peers_spec.lua $(BUSTED)

.PHONY: bench-peers
bench-peers: $(PEERS)/c $(PEERS)/go $(PEERS)/node_modules
	@:

$(PEERS)/c: bench/peers/c/client.c | $(BUILD)/$(LUA_NAME)/headers
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(LIB_CFLAGS) $(ALL_CFLAGS) -MMD -MP -o $@ $< $(LDFLAGS) $(LIB_LIBS)

$(PEERS)/go: bench/peers/go/main.go
	@mkdir -p $(@D)
	$(call say,GO)GOPATH=/usr/share/gocode GO111MODULE=off GOFLAGS= GOCACHE='$(CURDIR)/$(BUILD)/go' CGO_ENABLED=0 \
		go build -o $@ ./bench/peers/go

$(PEERS)/node_modules: bench/peers/package.json
	@mkdir -p $(@D) && cp $< $(@D)
	$(call say,NPM)npm install --prefix $(@D) --loglevel=error --no-audit --no-fund --ignore-scripts && touch $@

## share      the command's man page and shell completions, in build/share
.PHONY: share
share: build
	@tools/env $(LUA) -- @lua tools/share $(BUILD)/share
# A library goes without them.
SHARE = if tools/env $(LUA) -- @lua -e 'require "argparse"' >/dev/null 2>&1; then $(MAKE) -s share; \
	else echo "no argparse for $(LUA_NAME): installs no man page and no completions"; fi

## install    PREFIX=/usr/local DESTDIR= (or LUADIR=, LIBDIR=, BINDIR=, DATADIR=); LUA= as for build
.PHONY: install
install: build
	@$(SHARE)
	@$(INSTALL) add

## uninstall  takes away what install put there
.PHONY: uninstall
uninstall: build
	@$(SHARE)
	@$(INSTALL) remove

## static     build/luaX/libeventbus.a, whose one symbol is luaopen_eventbus_core, for hosts that link it in
.PHONY: static
static: $(ARCHIVE)
	@:

## embed      examples/embed: a C program with Lua and the bus inside
.PHONY: embed
embed: $(BUILD)/$(LUA_NAME)/embed
	@:

## rockspec   the released rockspec, made from that of the checkout
.PHONY: rockspec
rockspec:
	@tools/rockspec >rockspec/eventbus-$(VERSION)-1.rockspec

## dist       the source archive of a release: build/rock/eventbus-VERSION.tar.gz
.PHONY: dist
dist: $(BUILD)/rock
	@tools/dist $(BUILD)/rock/eventbus-$(VERSION).tar.gz

## rock       build/rock: the source rock, rockspec and archive in one, and a manifest: luarocks install --server=build/rock
.PHONY: rock
rock: deps-rock dist
	@cp rockspec/eventbus-$(VERSION)-1.rockspec $(BUILD)/rock
	@cd $(BUILD)/rock && rm -f *.rock && zip -qX eventbus-$(VERSION)-1.src.rock \
		eventbus-$(VERSION)-1.rockspec eventbus-$(VERSION).tar.gz
	@luarocks-admin make-manifest $(BUILD)/rock >/dev/null
	@echo $(BUILD)/rock/eventbus-$(VERSION)-1.src.rock

## deb        the Debian packages, in build/deb
.PHONY: deb
deb: deps-deb dist
	@rm -rf $(BUILD)/deb && mkdir -p $(BUILD)/deb
	@tar -xzf $(BUILD)/rock/eventbus-$(VERSION).tar.gz -C $(BUILD)/deb
	@cd $(BUILD)/deb/eventbus-$(VERSION) && env -u MAKEFLAGS -u MAKELEVEL dpkg-buildpackage -us -uc -b >../build.log 2>&1 || \
		{ tail -n 40 ../build.log; exit 1; }
	@rm -rf $(BUILD)/deb/eventbus-$(VERSION)
	@ls $(BUILD)/deb/*.deb

$(BUILD)/rock:
	@mkdir -p $@

## clean      remove build/
.PHONY: clean
clean:
	rm -rf $(BUILD)

## help       this list
.PHONY: help
help:
	@sed -n 's/^## /  make /p' Makefile

.PHONY: objects ctests interop spec-modules host
objects: $(ENGINE_OBJECTS) $(BINDING_OBJECTS) $(CTEST_SOURCES:spec/c/%.c=$(CTEST_DIR)/%.o) \
	$(LUA_CTEST_SOURCES:spec/c/%.c=$(LUA_CTEST_DIR)/%.o) \
	$(SIM_SOURCES:spec/sim/%.c=$(SIM_DIR)/%.o)
	@:
ctests: $(CTESTS)
	@:

# What specs need of the system: fork() from Lua, and names of their own for a resolver.
FORK_MODULE = $(MODULE_DIR)/spec/fork.so
NAMES_MODULE = $(MODULE_DIR)/spec/names.so
spec-modules: $(FORK_MODULE) $(NAMES_MODULE)
	@:

$(FORK_MODULE): spec/support/fork.c src/lua_compat.h | $(BUILD)/$(LUA_NAME)/headers
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -Isrc $(LUA_CFLAGS) $(ALL_CFLAGS) $(MODULE_LDFLAGS) $(LDFLAGS) -o $@ $<

$(NAMES_MODULE): spec/support/names.c
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(ALL_CFLAGS) $(MODULE_LDFLAGS) $(LDFLAGS) -o $@ $< -ldl

# The consumer and publisher of the platform's Go services, for the interop spec.
interop: $(if $(wildcard spec/go/*.go),$(BUILD)/interop)
	@:

$(BUILD)/interop: $(wildcard spec/go/*.go)
	@mkdir -p $(@D)
	@if command -v go >/dev/null 2>&1; then \
		printf '  GO %s\n' $@; \
		GOPATH=/usr/share/gocode GO111MODULE=off GOFLAGS= GOCACHE='$(CURDIR)/$(BUILD)/go' CGO_ENABLED=0 \
		go build -o $@ ./spec/go; \
	else echo "no Go compiler: $@ is not built"; fi

$(MODULE): $(MODULE_OBJECTS)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(or $(FLAVOUR_FLAGS),$(LTO) $(CFLAGS)) $(MODULE_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIB_LIBS) \
		&& grep -q luaopen_eventbus_core $@ || { rm -f $@; \
		echo "$@: its objects may be of another compiler, or another version of it: make clean" >&2; exit 1; }

# The interpreter of the specs under a sanitizer.
host: $(HOST)
	@:

$(HOST): spec/support/host.c src/lua_compat.h | $(BUILD)/$(LUA_NAME)/headers
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -Isrc $(LUA_CFLAGS) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $< $(LUA_LIBS)

# One object, so that what the engine's files share among themselves can be hidden from the host.
$(ARCHIVE): $(ENGINE_OBJECTS) $(BINDING_OBJECTS)
	@mkdir -p $(@D)
	$(call say,AR)$(LD) -r -o $(@:.a=.o) $^
ifeq ($(shell uname -s),Linux)
	@$(OBJCOPY) --keep-global-symbol=luaopen_eventbus_core $(@:.a=.o)
endif
	@rm -f $@ && $(AR) rcs $@ $(@:.a=.o) && rm -f $(@:.a=.o)

$(BUILD)/$(LUA_NAME)/embed: examples/embed/host.c $(ARCHIVE)
	$(call say,LD)$(CC) $(LUA_CFLAGS) $(WARNINGS) $(HARDENING) $(CFLAGS) $(HARD_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LUA_LIBS) $(LIB_LIBS)

# Objects in the first from sources in the second, with these flags.
define objects_in
$(1)/%.o: $(2)/%.c | $(BUILD)/$(LUA_NAME)/headers
	@mkdir -p $$(@D)
	$$(call say,CC)$$(CC) $(3) $$(LIB_CFLAGS) $$(ALL_CFLAGS) -MMD -MP -c -o $$@ $$<

endef
$(eval $(call objects_in,$(ENGINE_DIR),src))
$(eval $(call objects_in,$(BINDING_DIR),src,$$(LUA_CFLAGS)))
$(eval $(call objects_in,$(BUILD)/engine/whole,src,$$(LTO)))
$(eval $(call objects_in,$(BUILD)/$(LUA_NAME)/whole,src,$$(LUA_CFLAGS) $$(LTO)))
$(eval $(call objects_in,$(CTEST_DIR),spec/c,-Isrc))
$(eval $(call objects_in,$(LUA_CTEST_DIR),spec/c,-Isrc $$(LUA_CFLAGS)))
$(eval $(call objects_in,$(SIM_DIR),spec/sim,-Isrc))

$(CTEST_DIR)/%: $(CTEST_DIR)/%.o $(ENGINE_OBJECTS)
	$(call say,LD)$(CC) $(FLAVOUR_FLAGS) $(LDFLAGS) -o $@ $^ $(LIB_LIBS) -lm

$(LUA_CTEST_DIR)/%: $(LUA_CTEST_DIR)/%.o $(ENGINE_OBJECTS) $(BINDING_OBJECTS)
	$(call say,LD)$(CC) $(FLAVOUR_FLAGS) $(LDFLAGS) -o $@ $^ $(LUA_LIBS) $(LIB_LIBS) -lm

$(SIMULATE): $(SIM_SOURCES:spec/sim/%.c=$(SIM_DIR)/%.o) $(ENGINE_OBJECTS)
	$(call say,LD)$(CC) $(FLAVOUR_FLAGS) $(LDFLAGS) -o $@ $^ $(LIB_LIBS) -lm

$(FUZZ_LUA:%=$(BUILD)/fuzz/%): $(BUILD)/fuzz/%: spec/fuzz/lua_entry.c spec/fuzz/fuzz.h $(ENGINE_OBJECTS) $(BINDING_OBJECTS)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -Isrc $(LUA_CFLAGS) $(LIB_CFLAGS) $(ALL_CFLAGS) -fsanitize=fuzzer -DFUZZ_TARGET='"$*"' -o $@ $< \
		$(ENGINE_OBJECTS) $(BINDING_OBJECTS) $(LDFLAGS) $(LIB_LIBS) $(LUA_LIBS)

# handshake and session are in one file.
$(FUZZ_ENGINE:%=$(BUILD)/fuzz/%): $(BUILD)/fuzz/%: spec/fuzz/entry.c $(wildcard spec/fuzz/*.c spec/fuzz/*.h) $(ENGINE_OBJECTS)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -Isrc $(LIB_CFLAGS) $(ALL_CFLAGS) -fsanitize=fuzzer -DFUZZ_TARGET=fuzz_$* -o $@ spec/fuzz/entry.c \
		spec/fuzz/$(if $(filter handshake,$*),session,$*).c $(ENGINE_OBJECTS) $(LDFLAGS) $(LIB_LIBS) -lm

# One clear line instead of a compiler's "amqp.h: No such file".
$(BUILD)/$(LUA_NAME)/headers:
	@mkdir -p $(@D)
	@command -v $(firstword $(CC)) >/dev/null 2>&1 || \
		{ echo "no C compiler ($(CC)); type: make deps" >&2; exit 1; }
	@for header in 'lua.h' 'openssl/ssl.h'; do \
		printf '\043include <%s>\n' "$$header" | $(CC) $(LUA_CFLAGS) $(LIB_CFLAGS) -E - >/dev/null 2>&1 || \
		{ echo "$$header ($(LUA_NAME)) not found; type: make deps LUA=$(LUA)" >&2; exit 1; }; done
	@for header in 'rabbitmq-c/amqp.h' 'amqp.h'; do \
		printf '\043include <%s>\n' "$$header" | $(CC) $(LIB_CFLAGS) -E - >/dev/null 2>&1 && exit 0; done; \
		echo "the headers of rabbitmq-c were not found; type: make deps" >&2; exit 1
	@touch $@

.SECONDARY: $(CTEST_SOURCES:spec/c/%.c=$(CTEST_DIR)/%.o) $(LUA_CTEST_SOURCES:spec/c/%.c=$(LUA_CTEST_DIR)/%.o)

-include $(MODULE_OBJECTS:.o=.d) $(wildcard $(ENGINE_DIR)/*.d $(BINDING_DIR)/*.d $(CTEST_DIR)/*.d $(LUA_CTEST_DIR)/*.d $(SIM_DIR)/*.d $(PEERS)/*.d)
