--- delays: whether the delay queues of a cluster give back what has waited its time.
---
--- What has expired in a quorum queue is handed on by a process beside its leader. RabbitMQ 3.10 may lose that process
--- in a split of the network (rabbitmq-server 7677): the events stay, safe and forgotten, until the queue has another
--- leader. An operator moves it, and so do we; nothing of it concerns a client, and it is counted.

local wait = require "spec.support.wait"

local delays = {}

-- Lines of "queue count": what has expired and is still there.
local EXPIRED = [=[
  [begin
    {resource, _, queue, N} = amqqueue:get_name(Q),
    [io_lib:format("~s ~0p~n", [N, M]) || {messages_dlx, M} <- rabbit_amqqueue:info(Q, [messages_dlx])]
  end || Q <- rabbit_amqqueue:list(), amqqueue:get_type(Q) =:= rabbit_quorum_queue]]=]

-- To the member after the leader.
local MOVE = [=[
  begin
    {ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)),
    {ok, Members, Leader} = ra:members(amqqueue:get_pid(Q)),
    [Next | _] = Members -- [Leader],
    ra:transfer_leadership(Leader, Next)
  end]=]

-- The queues of which nothing that has expired goes away for so long: `counts` by name.
local function standing(node, seconds)
  local deadline, counts, first = wait.now() + seconds, {}, true
  while true do
    local left = false
    for queue, text in node:query(EXPIRED):gmatch "(%S+) (%S+)\n" do
      local count = tonumber(text)
      if first then counts[queue] = count and count > 0 and count or nil end
      if counts[queue] and count and count < counts[queue] then counts[queue] = nil end
      if counts[queue] and count then counts[queue] = count end
    end
    first = false
    for _ in pairs(counts) do left = true end
    if not left or wait.now() > deadline then return counts end
    wait.sleep(0.2)
  end
end

local MOVES = 4

--- Gives each of these queues another leader. Returns how many.
function delays.move(node, queues)
  for _, queue in ipairs(queues) do node:eval(MOVE:format(queue)) end
  return #queues
end

--- Waits until all give back. Returns how often a leader had to be moved.
function delays.give_back(node)
  local moved = 0
  for _ = 1, MOVES do
    local stuck = standing(node, 15)
    if not next(stuck) then return moved end
    local queues = {}
    for queue in pairs(stuck) do queues[#queues + 1] = queue end
    moved = moved + delays.move(node, queues)
  end
  local left = next(standing(node, 60))
  if left then error(left .. " does not give back what has waited, whoever leads it", 0) end
  return moved
end

return delays
