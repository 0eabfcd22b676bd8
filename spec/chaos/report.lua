--- report: what the rounds came to, for people, and a last line for the CI.

local report = {}

local function names_of(kinds)
  local list = {}
  for name in pairs(kinds) do list[#list + 1] = name end
  table.sort(list)
  return list
end

-- What was done as an operator would.
local ACTS = {
  { "replaced", "replicas of queues did not catch up by themselves and were replaced" },
  { "restarted", "nodes did not come up, or not find back into the cluster, by themselves and were restarted" },
  { "moved", "times a delay queue gave nothing back until it was given another leader" },
  { "closed", "connections were closed whose consumers the broker had not told that their queue was gone" },
  { "forgot", "connections were closed whose deliveries a queue counted and no channel knew of" },
}

local function one(result)
  print(("\n%d %s, seed %d, %.0f s"):format(result.nodes, result.nodes > 1 and "nodes" or "node", result.seed,
    result.seconds))
  print("  fault                                        times   longest time to recover")
  for _, name in ipairs(names_of(result.kinds)) do
    print(("  %-44s %5d   %.1f s"):format(name, result.kinds[name].count, result.kinds[name].longest))
  end
  local t = result.total
  if not result.ended then
    print(("  %d published, %d confirmed, %d handled; it did not come to its end"):format(t.published, t.confirmed,
      t.handled))
  else
    print(("  %d published, %d confirmed, %d handled, %d with the dead letters, %d lost, %d out of order"):format(
      t.published, t.confirmed, t.handled, t.dead, #t.lost, #t.disordered))
    print(("  %d handled again, %d published again after an error, %d gone with a deleted queue"):format(t.repeated,
      t.again, t.gone))
  end
  for _, act in ipairs(ACTS) do
    if result[act[1]] > 0 then print(("  %d %s"):format(result[act[1]], act[2])) end
  end
  for _, text in ipairs(result.wrong) do print("  WRONG: " .. text) end
end

--- Prints the results of rounds; true when nothing went wrong. A kind of fault that all came back from is one passed,
--- and so is each round whose accounts are right. `passed` and `failed` are of other checks.
function report.print(results, folder, passed, failed)
  passed, failed = passed or 0, failed or 0
  for _, result in ipairs(results) do
    one(result)
    for _ in pairs(result.kinds) do passed = passed + 1 end
    if #result.wrong == 0 then passed = passed + 1 else failed = failed + 1 end
  end
  if failed > 0 then print(("\njournals, logs and schedules are in %s"):format(folder)) end
  print(("%d passed, %d failed"):format(passed, failed))
  return failed == 0
end

return report
