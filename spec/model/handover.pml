/* handover: a worker, its session and a broker, while handlers fail; for spin (docs/testing.md).
 *
 * Events come from the work queue. One that is handled is acknowledged; of another a copy is published to the delay queue or
 * to the dead letters first, and it is acknowledged once that is confirmed (lua/eventbus/handover.lua, whose states bear
 * these names). At any moment the connection that consumes may be lost, or the one that publishes; a copy may come back or
 * be late, the broker may restart, the worker may die. What publish.pml proves of a publish is taken for granted.
 *
 *   held       an event is in the work queue, out with the worker, in the delay queue or with the dead letters, or handled
 *   settled    no delivery is settled twice; an ack covers only what the worker has settled, and none is of an older epoch
 *   repeated   an event is handled or dead-lettered twice only after one of the windows that docs/delivery.md names
 *   at last    once things are calm every event is handled or with the dead letters, and nothing is out
 */

#ifndef EVENTS
#define EVENTS 2
#endif
#ifndef FAULTS
#define FAULTS 1
#endif
#ifndef RETRIES
#define RETRIES 1    /* 0: what fails goes to the dead letters */
#endif
#define PREFETCH 2
#define COPIES 6     /* of all events, in the broker */
#define SLOTS 3      /* handovers under way */
#define TAGS 9       /* deliveries on one channel */
#define NONE 15

/* src/eb_item.h, lua/eventbus/handover.lua */
mtype:eb_settlement = { EB_UNSETTLED, EB_ACK, EB_REJECT, EB_REQUEUE, EB_RETURN }
mtype:handover = { declaring, publishing, waiting, confirmed, given_back }
/* Where a copy is; UNWRITTEN: acknowledged, which the broker has not written to its disk yet. */
mtype:place = { NOWHERE, WORK, OUT, DELAY, DEAD, UNWRITTEN }

byte faults;
bool begins;                 /* all is in its place */

/* The broker. */
mtype:place place[COPIES] = NOWHERE;
byte event[COPIES];
bool again[COPIES];          /* it is the second attempt */
byte tag_of[COPIES];
byte last_tag;
bool taken;                  /* the first of the posts is stored, and its confirm is owed */
byte taken_copy = NONE;
byte attempt_no;             /* of the post that is taken */

/* The session. 'epoch' is that of the consumer's channel, 'fate' what became of its tags: struct eb_acks. */
byte epoch;
mtype:eb_settlement fate[TAGS + 1] = EB_REJECT;   /* EB_REJECT: not delivered, or all is said */

/* The worker. */
byte known;                  /* hub.epoch: the loss of a channel is heard of later */
bool busy;                   /* a handler runs */
byte its_event, its_tag, its_epoch;
bool its_again;
mtype:handover state[SLOTS] = given_back;   /* confirmed and given_back: the slot is free */
byte h_event[SLOTS], h_tag[SLOTS], h_epoch[SLOTS];
bool h_again[SLOTS];
bool h_try[SLOTS];           /* which try its answer must be of */

/* What is on its way. */
chan inbox = [PREFETCH] of { byte, bool, byte, byte };                 /* event, again, tag, epoch */
chan outbox = [2] of { byte, byte, mtype:eb_settlement };              /* tag, epoch */
chan acks = [2] of { byte, bool };                                     /* tag, multiple */
chan posts = [3] of { byte, bool, byte, bool };                        /* event, dead letter, slot, try */
chan answers = [2] of { byte, bool, bool };                            /* slot, try, confirmed */

/* What the properties speak of. */
bool handled[EVENTS];
bool dead[EVENTS];           /* with the dead letters, once at least */
bool buried[EVENTS];         /* and there to stay */
bool excused[EVENTS];        /* a window was hit */
bool begun[TAGS + 1];        /* the handler of this delivery has begun */
bool settled[TAGS + 1];      /* the worker has acknowledged it */

#define HOLDS(c, e) (event[c] == e && place[c] != NOWHERE && place[c] != UNWRITTEN)
#define HELD(e) (handled[e] || buried[e] || HOLDS(0, e) || HOLDS(1, e) || HOLDS(2, e) || HOLDS(3, e) || HOLDS(4, e) || HOLDS(5, e))
#define IS_FREE(s) (state[s] == confirmed || state[s] == given_back)
#define IS_OUT(c) (place[c] == OUT -> 1 : 0)
#define OUTSTANDING (IS_OUT(0) + IS_OUT(1) + IS_OUT(2) + IS_OUT(3) + IS_OUT(4) + IS_OUT(5))
#define AT_REST (place[0] == NOWHERE && place[1] == NOWHERE && place[2] == NOWHERE && place[3] == NOWHERE && \
  place[4] == NOWHERE && place[5] == NOWHERE)

/* The broker. */

inline forget_copy (c) {
  place[c] = NOWHERE;
  assert(HELD(event[c]));
  event[c] = 0;
  again[c] = false;
  tag_of[c] = 0
}

/* A dead letter needs no place of its own once nothing can take it away. */
inline keep () {
  if
  :: place[taken_copy] == DEAD -> buried[event[taken_copy]] = true; forget_copy(taken_copy)
  :: else
  fi;
  taken_copy = NONE
}

/* In the first free place. */
inline store (e, dead_letter) {
  taken_copy = 0;
  do
  :: taken_copy < COPIES && place[taken_copy] != NOWHERE -> taken_copy++
  :: else -> break
  od;
  assert(taken_copy < COPIES);
  event[taken_copy] = e;
  if
  :: dead_letter ->
    place[taken_copy] = DEAD;
    assert(!(handled[e] || dead[e]) || excused[e]);
    dead[e] = true
  :: else ->
    place[taken_copy] = DELAY;
    again[taken_copy] = true
  fi
}

/* It goes to the consumer. */
inline deliver (c) {
  last_tag++;
  assert(last_tag <= TAGS);
  place[c] = OUT;
  tag_of[c] = last_tag;
  fate[last_tag] = EB_UNSETTLED;
  inbox!event[c], again[c], last_tag, epoch
}

inline on_ack (t, multiple) {
  known_tag = false;
  i = 0;
  do
  :: i < COPIES ->
    if
    :: place[i] == OUT && (tag_of[i] == t || (multiple && tag_of[i] < t)) ->
      known_tag = known_tag || tag_of[i] == t;
      assert(settled[tag_of[i]]);
      if
      :: forget_copy(i)
      :: faults < FAULTS -> place[i] = UNWRITTEN; tag_of[i] = 0; assert(HELD(event[i]))
      fi
    :: else
    fi;
    i++
  :: else -> break
  od;
  assert(known_tag);   /* else it would close the channel */
  known_tag = false;
  i = 0
}

/* The channel is gone: some of the acks arrive, what is out goes back, the session opens another. */
inline lose_channel () {
  do
  :: nempty(acks) -> acks?t, multiple; on_ack(t, multiple)
  :: break
  od;
  do
  :: nempty(acks) -> acks?t, multiple
  :: empty(acks) -> break
  od;
  do
  :: nempty(inbox) -> inbox?_, _, _, _
  :: empty(inbox) -> break
  od;
  i = 0;
  do
  :: i < COPIES ->
    if
    :: place[i] == OUT ->
      excused[event[i]] = excused[event[i]] || begun[tag_of[i]];
      place[i] = WORK;
      tag_of[i] = 0
    :: else
    fi;
    i++
  :: else -> break
  od;
  i = 0;
  do
  :: i <= TAGS -> fate[i] = EB_REJECT; begun[i] = false; settled[i] = false; i++
  :: else -> break
  od;
  i = 0; t = 0; multiple = false;
  last_tag = 0;
  epoch++
}

/* What was stored and not confirmed is sent again. */
inline lose_publisher () {
  if
  :: taken ->
    posts?<t, multiple, i, _>;
    excused[t] = true;
    taken = false;
    keep();
    t = 0; multiple = false; i = 0
  :: else
  fi
}

inline restart () {
  if
  :: taken -> forget_unconfirmed()
  :: true
  fi;
  lose_publisher();
  lose_channel();
  i = 0;
  do
  :: i < COPIES ->
    if
    :: place[i] == UNWRITTEN -> place[i] = WORK; excused[event[i]] = true
    :: true
    fi;
    i++
  :: else -> break
  od;
  i = 0
}

/* A copy that is not confirmed may be gone: the original is not acknowledged yet. */
inline forget_unconfirmed () {
  if
  :: place[taken_copy] != NOWHERE -> forget_copy(taken_copy)
  :: else
  fi
}

inline die () {
  do
  :: nempty(outbox) -> outbox?_, _, _
  :: empty(outbox) -> break
  od;
  lose_channel();
  if
  :: taken ->
    posts?_, _, _, _;
    taken = false;
    keep()
  :: else
  fi;
  do
  :: nempty(posts) ->
    posts?t, multiple, i, _;
    if
    :: store(t, multiple); keep()
    :: true
    fi
  :: empty(posts) -> break
  od;
  do
  :: nempty(answers) -> answers?_, _, _
  :: empty(answers) -> break
  od;
  i = 0;
  do
  :: i < SLOTS -> free(i); i++
  :: else -> break
  od;
  i = 0; t = 0; multiple = false;
  busy = false; its_event = 0; its_tag = 0; its_epoch = 0; its_again = false;
  known = epoch
}

inline free (s) {
  state[s] = given_back;
  h_event[s] = 0; h_tag[s] = 0; h_epoch[s] = 0; h_again[s] = false; h_try[s] = false
}

#define FAULT (faults < FAULTS)

proctype broker () {
  byte i, t, s;
  bool multiple, known_tag, try;
  do
  :: atomic { OUTSTANDING < PREFETCH && nfull(inbox) && place[0] == WORK -> deliver(0) }
  :: atomic { OUTSTANDING < PREFETCH && nfull(inbox) && place[1] == WORK -> deliver(1) }
  :: atomic { OUTSTANDING < PREFETCH && nfull(inbox) && place[2] == WORK -> deliver(2) }
  :: atomic { OUTSTANDING < PREFETCH && nfull(inbox) && place[3] == WORK -> deliver(3) }
  :: atomic { OUTSTANDING < PREFETCH && nfull(inbox) && place[4] == WORK -> deliver(4) }
  :: atomic { OUTSTANDING < PREFETCH && nfull(inbox) && place[5] == WORK -> deliver(5) }

  /* The delay is over. */
  :: atomic { place[0] == DELAY && taken_copy != 0 -> place[0] = WORK }
  :: atomic { place[1] == DELAY && taken_copy != 1 -> place[1] = WORK }
  :: atomic { place[2] == DELAY && taken_copy != 2 -> place[2] = WORK }
  :: atomic { place[3] == DELAY && taken_copy != 3 -> place[3] = WORK }
  :: atomic { place[4] == DELAY && taken_copy != 4 -> place[4] = WORK }
  :: atomic { place[5] == DELAY && taken_copy != 5 -> place[5] = WORK }

  :: atomic { nempty(acks) -> acks?t, multiple; on_ack(t, multiple); t = 0; multiple = false }

  :: atomic { place[0] == UNWRITTEN -> forget_copy(0) }
  :: atomic { place[1] == UNWRITTEN -> forget_copy(1) }
  :: atomic { place[2] == UNWRITTEN -> forget_copy(2) }
  :: atomic { place[3] == UNWRITTEN -> forget_copy(3) }
  :: atomic { place[4] == UNWRITTEN -> forget_copy(4) }
  :: atomic { place[5] == UNWRITTEN -> forget_copy(5) }

  /* The copies: stored, then confirmed. */
  :: atomic { nempty(posts) && !taken ->
      posts?<t, multiple, s, try>;
      store(t, multiple);
      taken = true;
      t = 0; multiple = false; s = 0; try = false }
  :: atomic { taken && nfull(answers) ->
      posts?t, multiple, s, try;
      taken = false;
      keep();
      answers!s, try, true;
      t = 0; multiple = false; s = 0; try = false }
  /* Its queue is missing. */
  :: atomic { FAULT && nempty(posts) && !taken && nfull(answers) ->
      faults++;
      posts?t, multiple, s, try;
      answers!s, try, false;
      t = 0; multiple = false; s = 0; try = false }

  :: atomic { FAULT -> faults++; lose_channel() }
  :: atomic { FAULT && taken -> faults++; lose_publisher() }
  :: atomic { FAULT -> faults++; restart() }
  :: atomic { FAULT -> faults++; die() }
  od
}

/* eb_session_submit, and eb_acks: one ack with 'multiple' covers what lies below the lowest tag that is not settled. */

#define UNSETTLED_BELOW(t) ((fate[1] == EB_UNSETTLED && 1 < t) || (fate[2] == EB_UNSETTLED && 2 < t) || \
  (fate[3] == EB_UNSETTLED && 3 < t) || (fate[4] == EB_UNSETTLED && 4 < t) || (fate[5] == EB_UNSETTLED && 5 < t) || \
  (fate[6] == EB_UNSETTLED && 6 < t) || (fate[7] == EB_UNSETTLED && 7 < t) || (fate[8] == EB_UNSETTLED && 8 < t))

proctype session () {
  byte t, its, first, n;
  bool multiple;
  mtype:eb_settlement how = EB_UNSETTLED;
  do
  :: atomic { nempty(outbox) ->
      outbox?t, its, how;
      if
      :: its != epoch   /* stale: dropped */
      :: else ->
        assert(fate[t] == EB_UNSETTLED);
        fate[t] = how
      fi;
      t = 0; its = 0; how = EB_UNSETTLED }
  /* channels_flush_acks */
  :: atomic { empty(outbox) && nfull(acks) && (fate[1] == EB_ACK || fate[2] == EB_ACK || fate[3] == EB_ACK ||
      fate[4] == EB_ACK || fate[5] == EB_ACK || fate[6] == EB_ACK || fate[7] == EB_ACK || fate[8] == EB_ACK ||
      fate[9] == EB_ACK) ->
      t = 1;
      do
      :: t <= TAGS && fate[t] != EB_ACK -> t++
      :: else -> break
      od;
      first = t;
      n = t + 1;
      do
      :: n <= TAGS ->
        if
        :: fate[n] == EB_ACK && !UNSETTLED_BELOW(n) -> t = n
        :: else
        fi;
        n++
      :: else -> break
      od;
      multiple = t != first;
      acks!t, multiple;
      do
      :: first <= t -> fate[first] = (fate[first] == EB_ACK -> EB_REJECT : fate[first]); first++
      :: else -> break
      od;
      t = 0; first = 0; n = 0; multiple = false }
  od
}

/* The worker: lua/eventbus/consumer.lua and handover.lua. */

inline settle (t, its) {
  if
  :: its == epoch -> assert(!settled[t]); settled[t] = true
  :: else
  fi;
  outbox!t, its, EB_ACK
}

inline hand_over () {
  s = 0;
  do
  :: !IS_FREE(s) -> s++
  :: else -> break
  od;
  state[s] = declaring;
  h_event[s] = its_event; h_tag[s] = its_tag; h_epoch[s] = its_epoch;
  h_again[s] = its_again || rejected;
  s = 0; rejected = false
}

inline done () {
  busy = false; its_event = 0; its_tag = 0; its_epoch = 0; its_again = false
}

inline publish (s) {
  state[s] = publishing;
  posts!h_event[s], h_again[s], s, h_try[s]
}

/* Not confirmed: given back, if its channel is gone meanwhile, or tried again. */
inline due (s) {
  if
  :: h_epoch[s] != known -> state[s] = given_back; free(s)
  :: else -> publish(s)
  fi
}

inline late (s) {
  excused[h_event[s]] = true;
  h_try[s] = !h_try[s];
  state[s] = waiting
}

proctype worker () {
  byte s;
  bool rejected, try, ok;
  do
  :: atomic { known != epoch -> known = epoch }

  /* A handler begins, and ends. */
  :: atomic { !busy && nempty(inbox) ->
      inbox?its_event, its_again, its_tag, its_epoch;
      begun[its_tag] = true;
      busy = true }
  :: atomic { busy && nfull(outbox) ->
      assert(!(handled[its_event] || dead[its_event]) || excused[its_event]);
      handled[its_event] = true;
      settle(its_tag, its_epoch);
      done() }
  :: atomic { busy && (IS_FREE(0) || IS_FREE(1) || IS_FREE(2)) ->
      if
      :: rejected = true
      :: RETRIES > 0 -> rejected = false
      fi;
      hand_over();
      done() }

  /* Handovers. */
  :: atomic { state[0] == declaring && nfull(posts) -> publish(0) }
  :: atomic { state[1] == declaring && nfull(posts) -> publish(1) }
  :: atomic { state[2] == declaring && nfull(posts) -> publish(2) }
  :: atomic { state[0] == waiting && nfull(posts) -> due(0) }
  :: atomic { state[1] == waiting && nfull(posts) -> due(1) }
  :: atomic { state[2] == waiting && nfull(posts) -> due(2) }
  :: atomic { nempty(answers) && nfull(outbox) ->
      answers?s, try, ok;
      if
      :: state[s] != publishing || try != h_try[s]   /* it was answered: too late */
      :: else ->
        if
        :: ok -> state[s] = confirmed; settle(h_tag[s], h_epoch[s]); free(s)
        :: else -> state[s] = waiting
        fi
      fi;
      s = 0; try = false; ok = false }
  :: atomic { FAULT && state[0] == publishing -> faults++; late(0) }
  :: atomic { FAULT && state[1] == publishing -> faults++; late(1) }
  od
}

init {
  atomic {
    event[1] = 1;
    place[0] = WORK;
#if EVENTS == 2
    place[1] = WORK;
#endif
    begins = true;
    run broker(); run session(); run worker()
  }
}

ltl held { [] (begins -> HELD(0) && HELD(EVENTS - 1)) }
ltl at_last { <> [] ((handled[0] || buried[0]) && (handled[EVENTS - 1] || buried[EVENTS - 1]) && AT_REST) }
