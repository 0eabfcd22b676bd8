/* publish: a program, its session, and a broker behind a connection that is lost; for spin (docs/testing.md).
 *
 * The session is that of src/eb_session_publish.c; its states bear the names they have there, and spec/model_spec.lua
 * sees to it. The program publishes and may close, at any moment. The connection may be lost at any moment, in any phase,
 * with any part of what was on its way. A run may also have one more trouble: an event that no queue takes, one whose
 * exchange is missing, a nack, an alarm, a restart of the broker. After the last loss things are calm.
 *
 *   answers     a publish is answered exactly once, and at last, with what is so
 *   confirmed   EB_OK: the broker has the event, and no restart loses it
 *   arrivals    an event arrives twice only if it was sent again after a loss
 *
 * What the simulation shows better is left out: bytes, frames, order, bounds, what arrives after the session has left.
 */

#ifndef EVENTS
#define EVENTS 2
#endif
#ifndef LOSSES
#define LOSSES 2
#endif
#define WINDOW 2
/* PATIENT: nothing runs out of time. With deadlines 'answered' would prove little. */
#define NONE 15

/* src/eb_session.h, eb_session_priv.h, eb_io.c */
mtype:eb_phase = { EB_PHASE_DOWN, EB_PHASE_GREETED, EB_PHASE_TUNING, EB_PHASE_OPENING, EB_PHASE_UP, EB_PHASE_CLOSING }
mtype:channel_state = { CHAN_CLOSED, CHAN_OPENING, CHAN_OPEN, CHAN_CLOSING }
mtype:eb_link_state = { EB_LINK_NONE, EB_LINK_CONNECTING, EB_LINK_STREAMING }
/* Of eb_error.h: what a publish may be answered here. */
mtype:eb_code = { EB_OK, EB_ERR_TIMEOUT, EB_ERR_BLOCKED, EB_ERR_RETURNED, EB_ERR_NACKED, EB_ERR_NOT_FOUND,
  EB_ERR_UNKNOWN, EB_ERR_CLOSED }
/* Where a publish is: not asked yet; in 'pending' or 'window' of struct publisher; eb_window_abandon; session_answer. */
mtype:place = { UNASKED, PENDING, WINDOWED, ABANDONED, ANSWERED }
/* AMQP's. */
mtype:method = { CONNECTION_START, CONNECTION_START_OK, CONNECTION_TUNE, CONNECTION_OPEN, CONNECTION_OPEN_OK,
  CONNECTION_BLOCKED, CONNECTION_UNBLOCKED, CONNECTION_CLOSE, CONNECTION_CLOSE_OK, CHANNEL_OPEN, CHANNEL_CLOSE,
  CHANNEL_CLOSE_OK, CONFIRM_SELECT_OK, BASIC_PUBLISH, BASIC_RETURN, BASIC_ACK, BASIC_NACK }
/* What becomes of an event at the broker: it is taken, comes back, or costs the channel. */
mtype:nature = { ORDINARY, UNROUTABLE, MISSING }

/* The run. */
mtype:nature nature[EVENTS] = ORDINARY;
bool resend;
bool deadlines;                /* publishes, and the close, may run out of time */
bool closes;                   /* the program may close */
bool may_nack, may_alarm, may_restart;

/* The session. */
mtype:eb_link_state link = EB_LINK_NONE;
mtype:eb_phase phase = EB_PHASE_DOWN;
mtype:channel_state state = CHAN_CLOSED;
mtype:place place[EVENTS] = UNASKED;
mtype:eb_code code[EVENTS] = EB_OK;
bool sent[EVENTS], returned[EVENTS];
byte slot[EVENTS + 1] = NONE;  /* of the window, by tag; NONE: confirmed already */
byte base = 1, count, live;
byte solo;
bool blocked, closing, over;
byte losses;

/* The wire. */
chan to_broker = [4] of { mtype:method, byte };
chan to_client = [4] of { mtype:method, byte, bool };

/* The broker. */
bool alive, open;              /* the connection, and its publishing channel */
byte took;                     /* publishes on that channel: the last tag */
byte owed[EVENTS + 1] = NONE;  /* confirms, by tag: the event's number */
#define NACK 8                 /* added to it */
bool alarm, told;
bool stored[EVENTS];
bool kept[EVENTS];             /* its confirm was sent: a restart may not lose it */
bool refused[EVENTS];          /* nacked */
bool arrived[EVENTS], resent[EVENTS];

#define WAITS(e) (place[e] == WINDOWED)
#if EVENTS == 2
#define ANY_PENDING (place[0] == PENDING || place[1] == PENDING)
#else
#define ANY_PENDING (place[0] == PENDING || place[1] == PENDING || place[2] == PENDING)
#endif
#define QUIET (live == 0 && !ANY_PENDING)

inline answer (e, what) {
  assert(place[e] == PENDING || place[e] == WINDOWED);
  assert(what != EB_OK || (stored[e] && kept[e] && nature[e] == ORDINARY));
  assert(what != EB_ERR_RETURNED || nature[e] == UNROUTABLE);
  assert(what != EB_ERR_NOT_FOUND || nature[e] == MISSING);
  assert(what != EB_ERR_NACKED || refused[e]);
  assert(what != EB_ERR_UNKNOWN || sent[e]);
  assert(what != EB_ERR_CLOSED || !sent[e]);
  code[e] = what;
  returned[e] = false;
  sent[e] = false;
  place[e] = ANSWERED
}

/* The broker takes an event from the wire. */

inline forget_channel () {
  do
  :: took > 0 -> owed[took] = NONE; took--
  :: else -> break
  od;
  open = false
}

inline store (e) {
  assert(!arrived[e] || resent[e]);
  arrived[e] = true;
  stored[e] = true;
  owed[took] = e
}

inline take (e) {
  took++;
  if
  :: nature[e] == MISSING -> forget_channel(); to_client!CHANNEL_CLOSE, 0, false
  :: nature[e] == UNROUTABLE -> owed[took] = e; to_client!BASIC_RETURN, e, false
  :: nature[e] == ORDINARY -> store(e)
  :: nature[e] == ORDINARY && may_nack -> may_nack = false; refused[e] = true; owed[took] = e + NACK
  fi
}

/* eb_window */

inline drop_confirmed () {
  do
  :: count > 0 && slot[base] == NONE -> base++; count--
  :: else -> break
  od
}

/* 'op' is the publish that waited for this tag, or NONE. */
inline clear (tag, op) {
  op = slot[tag];
  slot[tag] = NONE;
  if
  :: op != NONE && WAITS(op) -> live--
  :: op != NONE && !WAITS(op) -> place[op] = ANSWERED; op = NONE
  :: else
  fi
}

/* eb_session_publish */

inline answer_confirmed (op, nack) {
  if
  :: op == NONE
  :: op != NONE && nack -> answer(op, EB_ERR_NACKED)
  :: op != NONE && !nack && returned[op] -> answer(op, EB_ERR_RETURNED)
  :: op != NONE && !nack && !returned[op] -> answer(op, EB_OK)
  fi
}

inline on_confirm (tag, multiple, nack) {
  if
  :: multiple ->
    do
    :: count > 0 && tag >= base -> clear(base, op); drop_confirmed(); answer_confirmed(op, nack)
    :: else -> break
    od
  :: !multiple && tag >= base ->
    assert(tag < base + count);
    clear(tag, op);
    drop_confirmed();
    answer_confirmed(op, nack)
  :: else
  fi
}

/* The window is emptied; those that waited go to the front of the pending, which are in the order asked anyway. */
inline send_again () {
  do
  :: count > 0 ->
    clear(base, op);
    drop_confirmed();
    if
    :: op != NONE -> place[op] = PENDING; returned[op] = false; resent[op] = true
    :: else
    fi
  :: else -> break
  od;
  base = 1
}

inline lose () {
  do
  :: count > 0 ->
    clear(base, op);
    drop_confirmed();
    if
    :: op != NONE -> answer(op, EB_ERR_UNKNOWN)
    :: else
    fi
  :: else -> break
  od;
  base = 1
}

/* The broker closed the channel for an error, which does not say whose. */
inline publisher_closed () {
  if
  :: count == 1 && live == 1 ->
    clear(base, op);
    drop_confirmed();
    answer(op, EB_ERR_NOT_FOUND);
    base = 1
  :: else ->
    if
    :: live > 0 && resend ->
      if
      :: solo < live -> solo = live
      :: else
      fi;
      send_again()
    :: else -> lose()
    fi
  fi
}

inline detach () {
  phase = EB_PHASE_DOWN;
  link = EB_LINK_NONE;
  state = CHAN_CLOSED;
  blocked = false;
  if
  :: resend -> send_again()
  :: else -> lose()
  fi
}

/* Any part of what was on its way arrives, and the rest is gone. */
inline cut () {
  do
  :: alive && nempty(to_broker) && nfull(to_client) ->
    to_broker?m, tag;
    if
    :: m == BASIC_PUBLISH && open -> take(tag)
    :: else
    fi
  :: break
  od;
  do
  :: nempty(to_broker) -> to_broker?m, tag
  :: empty(to_broker) -> break
  od;
  do
  :: nempty(to_client) -> to_client?m, tag, multiple
  :: empty(to_client) -> break
  od;
  forget_channel();
  alive = false;
  told = false
}

inline fail () {
  tag = 0;
  do
  :: tag < EVENTS ->
    if
    :: place[tag] == PENDING && sent[tag] -> answer(tag, EB_ERR_UNKNOWN)
    :: place[tag] == PENDING && !sent[tag] -> answer(tag, EB_ERR_CLOSED)
    :: else
    fi;
    tag++
  :: else -> break
  od;
  over = true
}

#define MAY_SEND (!over && phase == EB_PHASE_UP && state == CHAN_OPEN && !blocked && count < WINDOW && \
  !(solo > 0 && count > 0) && nfull(to_broker))

inline send_first (e) {
  place[e] = WINDOWED;
  sent[e] = true;
  slot[base + count] = e;
  count++;
  live++;
  if
  :: solo > 0 -> solo--
  :: else
  fi;
  to_broker!BASIC_PUBLISH, e
}

#define MAY_EXPIRE(e) (!over && deadlines && (place[e] == PENDING || WAITS(e)))

inline expire (e) {
  multiple = WAITS(e);
  answer(e, (blocked -> EB_ERR_BLOCKED : EB_ERR_TIMEOUT));
  if
  :: multiple -> place[e] = ABANDONED; live--
  :: else
  fi
}

#define REST op = 0; tag = 0; multiple = false; m = CONNECTION_START

/* A turn of the loop does one or more of these; others act in between. */
proctype session () {
  byte op, tag;
  bool multiple;
  mtype:method m = CONNECTION_START;
  do
  :: over -> break

  /* The link. */
  :: atomic { !over && link == EB_LINK_NONE -> link = EB_LINK_CONNECTING }
  :: atomic { !over && link == EB_LINK_CONNECTING ->
      alive = true;
      link = EB_LINK_STREAMING;
      phase = EB_PHASE_GREETED;
      to_client!CONNECTION_START, 0, false }
  :: atomic { !over && link == EB_LINK_STREAMING && losses < LOSSES ->
      losses++;
      cut();
      detach();
      REST }

  /* What arrives. */
  :: atomic { !over && nempty(to_client) && nfull(to_broker) ->
      to_client?m, tag, multiple;
      if
      :: m == CONNECTION_START && phase == EB_PHASE_GREETED ->
        phase = EB_PHASE_TUNING;
        to_broker!CONNECTION_START_OK, 0
      :: m == CONNECTION_TUNE && phase == EB_PHASE_TUNING ->
        phase = EB_PHASE_OPENING;
        to_broker!CONNECTION_OPEN, 0
      :: m == CONNECTION_OPEN_OK && phase == EB_PHASE_OPENING -> phase = EB_PHASE_UP
      :: m == CONNECTION_BLOCKED -> blocked = true
      :: m == CONNECTION_UNBLOCKED -> blocked = false
      :: m == CONNECTION_CLOSE_OK -> assert(phase == EB_PHASE_CLOSING); cut(); detach(); fail()
      :: m == CONFIRM_SELECT_OK -> assert(state == CHAN_OPENING); state = CHAN_OPEN
      :: m == BASIC_ACK -> on_confirm(tag, multiple, false)
      :: m == BASIC_NACK -> on_confirm(tag, multiple, true)
      :: m == BASIC_RETURN ->
        if
        :: WAITS(tag) -> returned[tag] = true
        :: else  /* it timed out meanwhile */
        fi
      :: m == CHANNEL_CLOSE ->
        to_broker!CHANNEL_CLOSE_OK, 0;
        state = CHAN_CLOSED;
        publisher_closed()
      fi;
      REST }

  /* publisher_pump */
  :: atomic { !over && phase == EB_PHASE_UP && state == CHAN_CLOSED && nfull(to_broker) && ANY_PENDING ->
      state = CHAN_OPENING;
      to_broker!CHANNEL_OPEN, 0 }
  :: atomic { MAY_SEND && place[0] == PENDING -> send_first(0) }
  :: atomic { MAY_SEND && place[0] != PENDING && place[1] == PENDING -> send_first(1) }
#if EVENTS == 3
  :: atomic { MAY_SEND && place[0] != PENDING && place[1] != PENDING && place[2] == PENDING -> send_first(2) }
#endif

  /* publisher_expire */
  :: atomic { MAY_EXPIRE(0) -> expire(0); REST }
  :: atomic { MAY_EXPIRE(1) -> expire(1); REST }
#if EVENTS == 3
  :: atomic { MAY_EXPIRE(2) -> expire(2); REST }
#endif

  /* The end. */
  :: atomic { !over && closing && QUIET && phase == EB_PHASE_UP && nfull(to_broker) ->
      phase = EB_PHASE_CLOSING;
      to_broker!CONNECTION_CLOSE, 0 }
  :: atomic { !over && closing && (deadlines || (QUIET && phase != EB_PHASE_UP && phase != EB_PHASE_CLOSING)) ->
      cut();
      detach();
      fail();
      REST }
  od
}

/* Asks, and may close. */
proctype program () {
  byte e;
  do
  :: atomic { e < EVENTS -> place[e] = PENDING; e++ }
  :: atomic { closes -> closing = true; break }
  :: e == EVENTS -> break
  od
}

/* All that is owed up to tag t is of one kind, and more than one. */
#define SAME(t, u) (owed[u] == NONE || (owed[u] >= NACK) == (owed[t] >= NACK))
#define MANY(t) (t > 1 && SAME(t, 1) && SAME(t, t - 1))

inline confirm_sent (t) {
  if
  :: owed[t] < NACK -> kept[owed[t]] = true
  :: else
  fi;
  owed[t] = NONE
}

inline confirm (t) {
  if
  :: owed[t] < NACK -> m = BASIC_ACK
  :: else -> m = BASIC_NACK
  fi;
  if
  :: confirm_sent(t); to_client!m, t, false
  :: MANY(t) ->
    tag = 1;
    do
    :: tag <= t -> confirm_sent(tag); tag++
    :: else -> break
    od;
    to_client!m, t, true
  fi;
  tag = 0; m = CONNECTION_START
}

#define MAY_SAY (alive && nfull(to_client))

proctype broker () {
  byte tag;
  mtype:method m = CONNECTION_START;
  do
  :: atomic { MAY_SAY && !alarm && nempty(to_broker) ->
      to_broker?m, tag;
      if
      :: m == CONNECTION_START_OK -> to_client!CONNECTION_TUNE, 0, false
      :: m == CONNECTION_OPEN -> to_client!CONNECTION_OPEN_OK, 0, false
      :: m == CHANNEL_OPEN -> assert(!open); open = true; to_client!CONFIRM_SELECT_OK, 0, false
      :: m == CHANNEL_CLOSE_OK
      :: m == BASIC_PUBLISH && open -> take(tag)
      :: m == BASIC_PUBLISH && !open   /* it was closed meanwhile */
      :: m == CONNECTION_CLOSE -> to_client!CONNECTION_CLOSE_OK, 0, false
      fi;
      tag = 0; m = CONNECTION_START }
  :: atomic { MAY_SAY && owed[1] != NONE -> confirm(1) }
  :: atomic { MAY_SAY && owed[2] != NONE -> confirm(2) }
#if EVENTS == 3
  :: atomic { MAY_SAY && owed[3] != NONE -> confirm(3) }
#endif
  :: atomic { MAY_SAY && alarm && !told -> told = true; to_client!CONNECTION_BLOCKED, 0, false }
  :: atomic { MAY_SAY && !alarm && told -> told = false; to_client!CONNECTION_UNBLOCKED, 0, false }
  :: over -> break
  od
}

inline may_be_lost (e) {
  if
  :: stored[e] && !kept[e] -> stored[e] = false
  :: true
  fi
}

/* At any time, once, if this run has it. */
proctype trouble () {
  if
  :: atomic { may_restart && losses < LOSSES && alive ->
      alive = false;   /* the session will notice */
      may_be_lost(0);
      may_be_lost(1);
#if EVENTS == 3
      may_be_lost(2)
#endif
    }
  :: atomic { may_alarm -> alarm = true };
    atomic { alarm = false }
  :: skip
  fi
}

init {
  atomic {
    if
    :: skip
    :: nature[0] = UNROUTABLE
    :: nature[0] = MISSING
    :: nature[1] = MISSING
    :: may_nack = true
    :: may_alarm = true
    :: may_restart = true
    fi;
    if
    :: resend = true
    :: skip
    fi;
    if
    :: skip
    :: closes = true
#ifndef PATIENT
    :: deadlines = true
    :: deadlines = true; closes = true
#endif
    fi;
    run program(); run session(); run broker(); run trouble()
  }
}

#define AT_LAST(e) [] (place[e] == PENDING -> <> (place[e] == ANSWERED || place[e] == ABANDONED))
#define STAYS(e) [] ((place[e] == ANSWERED && code[e] == EB_OK) -> [] stored[e])

ltl answered { AT_LAST(0) && AT_LAST(1) }
ltl confirmed { STAYS(0) && STAYS(1) }
