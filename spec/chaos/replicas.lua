--- replicas: whether every replica of every quorum queue has what its leader has.
---
--- RabbitMQ 3.10 has a replica that, when its node comes back from a split, asks its leader for the same entries for
--- ever ("term mismatch" in its log). It serves the consumers of its own node, which then get nothing. An operator
--- replaces such a replica, and so do we; nothing of it concerns a client, and it is counted.

local wait = require "spec.support.wait"

local replicas = {}

-- Lines of "queue node state log-index"; a replica that cannot be asked has no number. (The commit index of a stuck
-- replica is the leader's.)
local STATUS = [=[
  [begin
    {resource, V, queue, N} = amqqueue:get_name(Q),
    [io_lib:format("~s ~s ~0p ~0p~n", [N, proplists:get_value(<<"Node Name">>, R, none),
      proplists:get_value(<<"Raft State">>, R, none), proplists:get_value(<<"Log Index">>, R, none)])
      || R <- rabbit_quorum_queue:status(V, N)]
  end || Q <- rabbit_amqqueue:list(), amqqueue:get_type(Q) =:= rabbit_quorum_queue]]=]

-- A list of { queue, node, leads, log }.
local function look(node)
  local list = {}
  for queue, name, state, index in node:query(STATUS):gmatch "(%S+) (%S+) (%S+) (%S+)\n" do
    list[#list + 1] = { queue = queue, node = name, leads = state == "leader", log = tonumber(index) or -1 }
  end
  return list
end

-- Those that have not reached what the leaders had: `goals` by queue.
local function behind(node, goals)
  local list = {}
  for _, replica in ipairs(look(node)) do
    if replica.log < (goals[replica.queue] or 0) then list[#list + 1] = replica end
  end
  return list
end

local function caught_up(node, goals, seconds)
  local deadline = wait.now() + seconds
  while true do
    local left = behind(node, goals)
    if not left[1] or wait.now() > deadline then return left end
    wait.sleep(0.2)
  end
end

--- Waits until all have caught up with what their leaders had at the call. Returns how many had to be replaced.
function replicas.catch_up(node)
  local goals = {}
  for _, replica in ipairs(look(node)) do
    if replica.leads then goals[replica.queue] = replica.log end
  end
  local stuck = caught_up(node, goals, 40)
  for _, replica in ipairs(stuck) do
    node:eval(([[rabbit_quorum_queue:delete_member(<<"/">>, <<"%s">>, '%s'), ok]]):format(replica.queue, replica.node))
    node:eval(([[ok = rabbit_quorum_queue:add_member(<<"/">>, <<"%s">>, '%s', 20000)]]):format(replica.queue,
      replica.node))
  end
  local left = stuck[1] and caught_up(node, goals, 60) or {}
  if left[1] then
    error(("the replica of %s on %s does not catch up, also not a new one"):format(left[1].queue, left[1].node), 0)
  end
  return #stuck
end

return replicas
