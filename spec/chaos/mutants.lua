--- mutants: proof that chaos can fail. Each entry is a mistake; tools/chaos-mutants puts all of them into one copy of
--- the library and the programs of chaos, plays a round with a real broker, and wants the accounts to name each.
---
---   { "what goes wrong", file, the text (found once in it), the text instead, the account, a pattern of the ids in it }

return {
  { "a failed event is acknowledged and goes nowhere", "lua/eventbus/consumer.lua",
    "  if ms then return send_back(self, delivery, ms, attempt + 1, text, failed, record) end\n",
    [[
  if delivery:message_id() == "failing-20" then return delivery:ack() end
  if ms then return send_back(self, delivery, ms, attempt + 1, text, failed, record) end
]], "lost", "^failing%-20$" },
  { "an event that is to be handled again goes to the dead letters", "spec/chaos/consumer.lua",
    "  local n, id = event.data.n, event.id\n", [[
  local n, id = event.data.n, event.id
  if id == "failing-21" then eventbus.reject "never asked for" end
]], "stray", "^failing%-21$" },
  { "a publisher takes for confirmed what it never sent", "spec/chaos/publisher.lua",
    "  log:add(again and \"R\" or \"A\", id, again or \"\")\n", [[
  log:add(again and "R" or "A", id, again or "")
  if id == "ordered-30" then return log:add("C", id) end
]], "lost", "^ordered%-30$" },
  { "a consumer acknowledges what it has not handled", "spec/chaos/consumer.lua",
    "  work(loop == \"luv\" and 0.01 or 0.004)\n", [[
  if id == "keyed-50" then return end
  work(loop == "luv" and 0.01 or 0.004)
]], "lost", "^keyed%-50$" },
  { "an event is handled after a later one", "spec/chaos/consumer.lua",
    "local function handler(event, ctx)\n", [[
local function handler(event, ctx)
  if event.id == "ordered-40" and not moved then
    moved = event
    return
  elseif moved and moved ~= true then
    local late = moved
    moved = true
    ctx:publish("", late.type, late.data, { id = late.id, routing_key = flows.queue(flow) })
  end
]], "disordered", "^ordered%-40 after %d+" },
  -- In place of a deletion that the ledger is told of.
  { "a queue is emptied behind the back of the accounts", "spec/chaos/faults.lua", [[
  world.cluster:delete_queue(flows.queue(flows.fragile))
  world:queue_deleted(flows.fragile)
  if #world.cluster.nodes == 1 then return end
  return function()
    world.cluster:surely(function() world.cluster:consumed_again(flows.queue(flows.fragile), 90) end)
  end
]], [[
  local reader
  for _, each in ipairs(world.consumers) do reader = each.name:match "fragile" and each or reader end
  reader:kill()
  local node, name = world.cluster.nodes[1], flows.queue(flows.fragile)
  wait.wait_until(function() return node:queue("/", name).messages_ready >= 60 end, 60, "events wait")
  node:eval(("{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"%s\">>)), rabbit_amqqueue:purge(Q)")
    :format(name))
  return function() reader:start() end
]], "lost", "^fragile%-%d+$" },
}
