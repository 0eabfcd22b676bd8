-- mutants: proof that the models can fail. Each entry is a mistake; tools/model puts it into a copy of the model and wants a
-- counterexample.
--
--   { "what goes wrong", model =, flags =, claim =, { the text (found once in it), the text instead }, ... }
--
-- Without a claim an assertion must fail.

return {
  { "a publish is answered as soon as it is sent", model = "publish", flags = "-DLOSSES=1",
    { "  to_broker!BASIC_PUBLISH, e\n", "  to_broker!BASIC_PUBLISH, e;\n  answer(e, EB_OK)\n" } },
  { "what was in flight is not sent again", model = "publish", flags = "-DPATIENT -DLOSSES=1", claim = "answered",
    { "place[op] = PENDING; returned[op] = false; resent", "resent" } },
  { "what was in flight is confirmed when the connection is lost", model = "publish", flags = "-DLOSSES=1",
    { "place[op] = PENDING; returned[op] = false; resent[op] = true", "answer(op, EB_OK)" } },
  { "tags go on after a new channel", model = "publish", flags = "-DPATIENT -DLOSSES=1",
    { "resent[op] = true\n    :: else\n    fi\n  :: else -> break\n  od;\n  base = 1\n",
      "resent[op] = true\n    :: else\n    fi\n  :: else -> break\n  od\n" } },
  { "every confirm counts for all before it", model = "publish", flags = "-DLOSSES=1",
    { "  :: multiple ->\n", "  :: multiple || tag >= base ->\n" } },
  { "a confirm after the deadline answers again", model = "publish", flags = "-DLOSSES=1",
    { "place[op] = ANSWERED; op = NONE", "skip" } },
  { "a nack counts as a confirm", model = "publish", flags = "-DLOSSES=1",
    { "on_confirm(tag, multiple, true)", "on_confirm(tag, multiple, false)" } },
  { "a returned event counts as confirmed", model = "publish", flags = "-DLOSSES=1",
    { ":: WAITS(tag) -> returned[tag] = true", ":: WAITS(tag) -> skip" } },
  { "a channel error blames the oldest of many", model = "publish", flags = "-DLOSSES=1",
    { ":: count == 1 && live == 1 ->", ":: live >= 1 ->" } },
  { "a publish sent and lost is said not to have been sent", model = "publish", flags = "-DLOSSES=1",
    { ":: place[tag] == PENDING && sent[tag] -> answer(tag, EB_ERR_UNKNOWN)",
      ":: place[tag] == PENDING && sent[tag] -> answer(tag, EB_ERR_CLOSED)" } },

  { "the original is acknowledged before its copy is confirmed", model = "handover", flags = "-DEVENTS=1",
    { "  state[s] = publishing;\n", "  state[s] = publishing;\n  settle(h_tag[s], h_epoch[s]);\n" },
    { "state[s] = confirmed; settle(h_tag[s], h_epoch[s]); free(s)", "state[s] = confirmed; free(s)" } },
  { "a copy that came back counts as confirmed", model = "handover", flags = "-DEVENTS=1",
    { ":: else -> state[s] = waiting\n", ":: else -> state[s] = confirmed; settle(h_tag[s], h_epoch[s]); free(s)\n" } },
  { "a copy that came back is forgotten", model = "handover", flags = "-DEVENTS=1 -DRETRIES=0", claim = "at_last",
    { ":: else -> publish(s)\n", ":: else -> state[s] = given_back; free(s)\n" } },
  { "a copy is published once more though it was confirmed", model = "handover", flags = "-DEVENTS=1 -DRETRIES=0",
    { ":: ok -> state[s] = confirmed; settle(h_tag[s], h_epoch[s]); free(s)", ":: ok -> publish(s)" } },
  { "an ack of an older epoch is sent", model = "handover", flags = "-DEVENTS=1",
    { ":: its != epoch   /* stale: dropped */", ":: false" } },
  { "an ack covers deliveries that are not settled", model = "handover", flags = "-DEVENTS=2 -DRETRIES=0",
    { "multiple = t != first;", "multiple = true;" } },
}
