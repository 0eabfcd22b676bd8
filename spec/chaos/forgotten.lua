--- forgotten: deliveries that a quorum queue counts as under way, and of which no channel knows.
---
--- When a queue changes its leader in a split, RabbitMQ may lose what was acknowledged in that moment (rabbitmq-server
--- 15473): to the queue the consumer's prefetch stays used up, to the channel nothing is open, and nothing is delivered any
--- more. It ends when that consumer goes. An operator closes its connection, and so do we; no client can see it, and it is
--- counted.

local wait = require "spec.support.wait"

local forgotten = {}

-- Lines of "queue forgotten": what the queue has under way, less what the channels of its consumers have.
local LOOK = [=[
  [begin
    {resource, _, queue, N} = amqqueue:get_name(Q),
    {ok, Out, _} = ra:consistent_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_checked_out/1),
    Known = lists:sum([M || P <- lists:usort([element(1, C) || C <- rabbit_amqqueue:consumers(Q)]),
      [{_, M}] <- [catch rabbit_channel:info(P, [messages_unacknowledged])]]),
    io_lib:format("~s ~0p~n", [N, Out - Known])
  end || Q <- rabbit_amqqueue:list(), amqqueue:get_type(Q) =:= rabbit_quorum_queue]]=]

local CLOSE = [=[
  begin
    {ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)),
    length([rabbit_networking:close_connection(C, "forgotten") || C <- lists:usort([C ||
      P <- [element(1, X) || X <- rabbit_amqqueue:consumers(Q)],
      [{_, C}] <- [catch rabbit_channel:info(P, [connection])]])])
  end]=]

--- Queues, as a set, that have some at each look for so long: what passes on its way counts for a moment, too.
function forgotten.standing(node, seconds)
  local deadline, list, first = wait.now() + seconds, {}, true
  while true do
    for queue, count in node:query(LOOK):gmatch "(%S+) (%S+)\n" do
      local some = tonumber(count) > 0
      list[queue] = some and (first or list[queue]) or nil
    end
    first = false
    if not next(list) or wait.now() > deadline then return list end
    wait.sleep(0.2)
  end
end

--- Closes the connections of those who consume a queue. Returns how many.
function forgotten.close(node, queue) return tonumber(node:eval(CLOSE:format(queue))) end

--- The same of all such queues.
function forgotten.give_back(node)
  local closed = 0
  for queue in pairs(forgotten.standing(node, 10)) do closed = closed + forgotten.close(node, queue) end
  return closed
end

return forgotten
